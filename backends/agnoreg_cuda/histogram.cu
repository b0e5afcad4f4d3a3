// The joint histogram of Parzen weights, and the gradient of a function of it: BINS bins an image, and windows of RADIUS
// bins each way.

constexpr int SIDE = BINS <= 32 ? 4 : 8;                   // a histogram is a square of SIDE x SIDE threads' tiles
constexpr int TILE = (BINS + SIDE - 1) / SIDE;             // each of TILE x TILE bins
constexpr int FEW = THREADS / 2;                           // threads of a block that holds a histogram in registers
constexpr int GROUPS = FEW / (SIDE * SIDE);                // the samples are dealt to so many groups of threads
constexpr int STRIP = BINS <= 32 ? FEW / 2 : FEW / 4;      // samples whose weights are in shared memory
constexpr int STRIDE = STRIP + 4;
constexpr int STRIPS = BINS <= 32 ? 4 : 2;                 // strips that are added up in float32: 32 samples
constexpr int TAPS = 2 * RADIUS + 1;

// The Parzen weights of a voxel: w[i] is that of bin `nearest - RADIUS + i`, zero beyond the bins, and they add up to 1.
// Exponents are relative to the nearest bin's, so that narrow windows do not vanish. `rate` is log2(e) / (2 sigma^2),
// with sigma in bins. Bins further than RADIUS away have weights that float32 does not see beside the nearest one's.
__device__ __forceinline__ int parzen(float voxel, float rate, float (&w)[TAPS]) {
  const float clipped = voxel < 0.0f ? 0.0f : voxel > 1.0f ? 1.0f : voxel;
  const float place = clipped * (BINS - 1);
  // NaN goes to some bin, with weights of NaN.
  const int nearest = min(max(static_cast<int>(place + 0.5f), 0), BINS - 1);
  const float beside = fmaf(clipped, BINS - 1, -nearest);  // rounded once: narrow windows are steep
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < TAPS; ++i) {
    const int step = i - RADIUS, bin = nearest + step;
    const bool there = bin >= 0 && bin < BINS;
    w[i] = there ? exp2f((2.0f * beside - step) * step * rate) : 0.0f;
    sum += w[i];
  }
  const float inverse = 1.0f / sum;
#pragma unroll
  for (int i = 0; i < TAPS; ++i) w[i] *= inverse;
  return nearest;
}

// The joint histograms, one a block: a product of matrices of weights, in registers. Each register adds up few samples
// before it goes into a double, so that a large background is not rounded. `counts` are the voxels' weights, or null.
extern "C" __global__ void __launch_bounds__(FEW)
    histogram(const float* t, const float* p, const float* counts, int voxels, float rate, double* partial) {
  union Shared {
    float weights[2][SIDE * TILE][STRIDE];
    double joint[BINS * BINS];
  };
  __shared__ Shared shared;
  const int thread = threadIdx.x, group = thread / (SIDE * SIDE);
  const int row = thread / SIDE % SIDE, column = thread % SIDE;
  const long long offset = static_cast<long long>(blockIdx.y) * voxels;
  double total[TILE][TILE] = {};
  float sum[TILE][TILE] = {};
  const auto flush = [&] {
#pragma unroll
    for (int i = 0; i < TILE; ++i)
#pragma unroll
      for (int j = 0; j < TILE; ++j) total[i][j] += sum[i][j], sum[i][j] = 0.0f;
  };
  int strips = 0;
  for (long long begin = static_cast<long long>(blockIdx.x) * STRIP; begin < voxels;
       begin += static_cast<long long>(gridDim.x) * STRIP) {
    __syncthreads();
    if (thread < 2 * STRIP) {
      const int image = thread / STRIP, place = thread % STRIP;
      float(*const strip)[STRIDE] = shared.weights[image];
#pragma unroll
      for (int bin = 0; bin < SIDE * TILE; ++bin) strip[bin][place] = 0.0f;
      // What a mask leaves out adds nothing, whatever its intensities are; another voxel counts once, in one image.
      const float count = begin + place < voxels ? counts ? counts[offset + begin + place] : 1.0f : 0.0f;
      if (count != 0.0f) {
        float w[TAPS];
        const int nearest = parzen((image ? p : t)[offset + begin + place], rate, w);
#pragma unroll
        for (int i = 0; i < TAPS; ++i) {
          const int bin = nearest - RADIUS + i;
          if (bin >= 0 && bin < BINS) strip[bin][place] = image ? w[i] : w[i] * count;
        }
      }
    }
    __syncthreads();
    for (int place = group; place < STRIP; place += GROUPS) {
      float a[TILE], b[TILE];
#pragma unroll
      for (int i = 0; i < TILE; ++i) {
        a[i] = shared.weights[0][row + i * SIDE][place];
        b[i] = shared.weights[1][column + i * SIDE][place];
      }
#pragma unroll
      for (int i = 0; i < TILE; ++i)
#pragma unroll
        for (int j = 0; j < TILE; ++j) sum[i][j] += a[i] * b[j];
    }
    if (++strips % STRIPS == 0) flush();
  }
  flush();
  for (int turn = 0; turn < GROUPS; ++turn) {
    __syncthreads();
    if (group == turn) {
#pragma unroll
      for (int i = 0; i < TILE; ++i)
#pragma unroll
        for (int j = 0; j < TILE; ++j) {
          const int a = row + i * SIDE, b = column + j * SIDE;
          if (a < BINS && b < BINS) shared.joint[a * BINS + b] = (turn ? shared.joint[a * BINS + b] : 0.0) + total[i][j];
        }
    }
  }
  __syncthreads();
  double* const out = partial + (static_cast<long long>(blockIdx.y) * gridDim.x + blockIdx.x) * BINS * BINS;
  for (int i = thread; i < BINS * BINS; i += FEW) out[i] = shared.joint[i];
}

// Each sample's joint histogram: the sum of its blocks' ones.
extern "C" __global__ void __launch_bounds__(THREADS) sum_of_partial(const double* partial, int count, double* joint) {
  const int cell = blockIdx.x * THREADS + threadIdx.x;
  if (cell >= BINS * BINS) return;
  double sum = 0.0;
  for (int i = 0; i < count; ++i) sum += partial[(static_cast<long long>(blockIdx.y) * count + i) * BINS * BINS + cell];
  joint[static_cast<long long>(blockIdx.y) * BINS * BINS + cell] = sum;
}

// The gradient by `own`: sum_kl w_k'(own) matrix[k, l] w_l(other) with w_k' = w_k (k - mean k), the mean over the voxel's
// own weights; what else the weights' derivative has is a factor of the matrix.
extern "C" __global__ void __launch_bounds__(THREADS)
    histogram_gradient(const float* own, const float* other, const float* counts, int voxels, float rate,
                       const float* matrix, float* gradient) {
  constexpr int PADDED = BINS + 2 * RADIUS;
  __shared__ float padded[PADDED][PADDED | 1];
  for (int i = threadIdx.x; i < PADDED * PADDED; i += THREADS) {
    const int k = i / PADDED - RADIUS, l = i % PADDED - RADIUS;
    const bool there = k >= 0 && k < BINS && l >= 0 && l < BINS;
    padded[k + RADIUS][l + RADIUS] =
        there ? matrix[static_cast<long long>(blockIdx.y) * BINS * BINS + k * BINS + l] : 0.0f;
  }
  __syncthreads();
  const long long offset = static_cast<long long>(blockIdx.y) * voxels;
  for (long long voxel = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x; voxel < voxels;
       voxel += static_cast<long long>(gridDim.x) * THREADS) {
    const float count = counts ? counts[offset + voxel] : 1.0f;
    if (count == 0.0f) {
      gradient[offset + voxel] = 0.0f;
      continue;
    }
    const float x = own[offset + voxel];
    float a[TAPS], b[TAPS];
    const int row = parzen(x, rate, a), column = parzen(other[offset + voxel], rate, b);
    float mean = 0.0f;
#pragma unroll
    for (int i = 0; i < TAPS; ++i) mean += a[i] * (i - RADIUS);
    float slope = 0.0f;
#pragma unroll
    for (int i = 0; i < TAPS; ++i) {
      float by_weight = 0.0f;
#pragma unroll
      for (int j = 0; j < TAPS; ++j) by_weight += padded[row + i][column + j] * b[j];
      slope += a[i] * by_weight * (i - RADIUS - mean);
    }
    // Clipping passes the gradient at exactly 0 and 1, and NaN is neither inside nor beyond.
    gradient[offset + voxel] = x < 0.0f || x > 1.0f ? 0.0f : slope * count;
  }
}

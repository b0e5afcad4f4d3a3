// Kernels of agnoreg for CUDA cards. Plain CUDA C++ without includes, compiled by NVRTC when it is first used.
//
// With WINDOW defined: squared local correlation in rectangular windows of that width, and its gradient.
// With BINS and RADIUS defined: the joint histogram of Parzen weights, and the gradient of a function of it.
//
// No atomics: blocks write partial sums, which one more kernel adds up in a fixed order, in double. Two runs on one card
// agree bit for bit. Images are float32, C-contiguous, with fewer than 2^31 voxels.

constexpr int THREADS = 256;

// Return the sum of one number of each of THREADS threads, in a fixed order. Every thread gets it.
__device__ double block_sum(double mine) {
  __shared__ double sums[THREADS];
  const int thread = threadIdx.x;
  __syncthreads();
  sums[thread] = mine;
  __syncthreads();
  for (int step = THREADS / 2; step > 0; step /= 2) {
    if (thread < step) sums[thread] += sums[thread + step];
    __syncthreads();
  }
  return sums[0];
}

#ifdef WINDOW

constexpr int TILE_X = 32;              // columns of outputs of a block: one a lane
constexpr int PER = WINDOW <= 9 ? 2 : 1;  // rows of outputs of a thread: each keeps WINDOW - 1 windows in registers
constexpr int TILE_Y = THREADS / TILE_X * PER;
constexpr int BLOCKS = WINDOW <= 16 ? 2 : 1;  // blocks that share a multiprocessor's registers
constexpr int WIDE = TILE_X + WINDOW - 1, HIGH = TILE_Y + WINDOW - 1;
// Rows start one bank apart modulo 4, since four neighbours along a row go to one thread.
constexpr int PITCH = (WIDE + 2) / 4 * 4 + 1, ROW = TILE_X + 1;

// --- windows ---------------------------------------------------------------------------------------------------------

// The means and the centred second moments of two images in a window.
struct Moments {
  static constexpr int PARTS = 5;
  enum { T, P, TT, PP, TP };
  float part[PARTS];
};

// Join two windows of na and nb voxels: M = Ma + Mb + (mean b - mean a)^2 na nb / (na + nb). Nothing cancels, and flat
// windows have moments of exactly 0.
__device__ __forceinline__ Moments join(const Moments& a, float na, const Moments& b, float nb) {
  const float share = nb / (na + nb), weight = na * nb / (na + nb);
  const float dt = b.part[Moments::T] - a.part[Moments::T], dp = b.part[Moments::P] - a.part[Moments::P];
  const float wt = dt * weight, wp = dp * weight;
  return {{
      a.part[Moments::T] + dt * share,
      a.part[Moments::P] + dp * share,
      a.part[Moments::TT] + b.part[Moments::TT] + dt * wt,
      a.part[Moments::PP] + b.part[Moments::PP] + dp * wp,
      a.part[Moments::TP] + b.part[Moments::TP] + dt * wp,
  }};
}

// The sums of three fields over a window.
struct Sums {
  static constexpr int PARTS = 3;
  float part[PARTS];
};

__device__ __forceinline__ Sums join(const Sums& a, float, const Sums& b, float) {
  return {{a.part[0] + b.part[0], a.part[1] + b.part[1], a.part[2] + b.part[2]}};
}

// Join the COUNT neighbours load(FIRST), load(FIRST + 1), ... of `unit` voxels each, in pairs.
template <int FIRST, int COUNT, class Load>
__device__ __forceinline__ auto joined(const Load& load, float unit) {
  if constexpr (COUNT == 1) {
    return load(FIRST);
  } else {
    constexpr int half = COUNT / 2;
    return join(joined<FIRST, half>(load, unit), half * unit, joined<FIRST + half, COUNT - half>(load, unit),
                (COUNT - half) * unit);
  }
}

// Make one, two or four neighbouring windows, which share what they have in common.
template <class W, class Load>
__device__ __forceinline__ void windows(const Load& load, float unit, W (&out)[1]) {
  out[0] = joined<0, WINDOW>(load, unit);
}

template <class W, class Load>
__device__ __forceinline__ void windows(const Load& load, float unit, W (&out)[2]) {
  if constexpr (WINDOW == 1) {
    out[0] = load(0), out[1] = load(1);
  } else {
    const W middle = joined<1, WINDOW - 1>(load, unit);
    out[0] = join(load(0), unit, middle, (WINDOW - 1) * unit);
    out[1] = join(middle, (WINDOW - 1) * unit, load(WINDOW), unit);
  }
}

template <class W, class Load>
__device__ __forceinline__ void windows(const Load& load, float unit, W (&out)[4]) {
  if constexpr (WINDOW < 4) {
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = joined<0, WINDOW>([&](int j) { return load(i + j); }, unit);
  } else {
    const float most = (WINDOW - 3) * unit;
    const W middle = joined<3, WINDOW - 3>(load, unit);
    const W left1 = load(2), right1 = load(WINDOW);
    const W left2 = join(load(1), unit, left1, unit), right2 = join(right1, unit, load(WINDOW + 1), unit);
    out[0] = join(join(load(0), unit, left2, 2 * unit), 3 * unit, middle, most);
    out[1] = join(join(left2, 2 * unit, middle, most), most + 2 * unit, right1, unit);
    out[2] = join(join(left1, unit, middle, most), most + unit, right2, 2 * unit);
    out[3] = join(middle, most, join(right2, 2 * unit, load(WINDOW + 2), unit), 3 * unit);
  }
}

// The windows of the last WINDOW planes, while planes go by: windows of 1, 2, 4, ... planes are made by doubling, and
// those that the binary digits of WINDOW name are joined, the narrowest of them the latest.
template <class W>
struct Stream {
  static constexpr int TOP = WINDOW >= 32 ? 5 : WINDOW >= 16 ? 4 : WINDOW >= 8 ? 3 : WINDOW >= 4 ? 2 : WINDOW >= 2 ? 1 : 0;
  W past[WINDOW > 1 ? WINDOW - 1 : 1] = {};  // from 2^level - 1 on: the windows of 2^level planes, the latest first

  __device__ __forceinline__ W push(W window, float unit) {
    W result = window;
    int covered = 0;
#pragma unroll
    for (int level = 0; level <= TOP; ++level) {
      const int size = 1 << level, depth = level < TOP ? size : WINDOW - size;
      W* const own = past + size - 1;
      if (WINDOW & size) {
        const W piece = covered ? own[covered - 1] : window;
        result = covered ? join(piece, size * unit, result, covered * unit) : piece;
        covered += size;
      }
      W wider = window;
      if (level < TOP) wider = join(own[size - 1], size * unit, window, size * unit);
#pragma unroll
      for (int i = depth - 1; i > 0; --i) own[i] = own[i - 1];
      if (depth > 0) own[0] = window;
      window = wider;
    }
    return result;
  }
};

// --- the sweep over a block's planes ----------------------------------------------------------------------------------

// Copy one float to shared memory, or a zero: on its way while the threads compute, where the card can.
__device__ __forceinline__ void fetch(float* to, const float* from, bool inside) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(address), "l"(from), "r"(inside ? 4 : 0) : "memory");
#else
  *to = inside ? *from : 0.0f;
#endif
}

__device__ __forceinline__ void wait_for_fetched() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;\ncp.async.wait_group 0;" ::: "memory");
#endif
}

// Slide the window over a block's tile and chunk of planes. `work` has the FIELDS that are read, what a voxel of them is
// as a Window, and what is done with each complete one. Windows along x and y come first, for every new plane; those
// along z are carried in registers.
template <class Work>
__device__ __forceinline__ void sweep(Work& work, int depth, int height, int width, int chunk, int before) {
  using W = typename Work::Window;
  __shared__ float raw[Work::FIELDS][HIGH][PITCH];
  __shared__ float rows[W::PARTS][HIGH][ROW];
  const int chunks = (depth + chunk - 1) / chunk;
  const int sample = blockIdx.z / chunks, start = blockIdx.z % chunks * chunk, stop = min(start + chunk, depth);
  const int x0 = blockIdx.x * TILE_X, y0 = blockIdx.y * TILE_Y, thread = threadIdx.x;
  const int column = thread % TILE_X, line = thread / TILE_X * PER;
  const int last = stop + WINDOW - 1 - before, plane_size = height * width;
  const float* fields[Work::FIELDS];
#pragma unroll
  for (int f = 0; f < Work::FIELDS; ++f) fields[f] = work.field(f) + static_cast<long long>(sample) * depth * plane_size;
  work.begin(sample);

  const auto fetch_plane = [&](int z) {
    for (int i = thread; i < HIGH * WIDE; i += THREADS) {
      const int row = i / WIDE, place = i % WIDE, y = y0 - before + row, x = x0 - before + place;
      const bool inside = z >= 0 && z < depth && y >= 0 && y < height && x >= 0 && x < width;
      const int offset = inside ? z * plane_size + y * width + x : 0;
#pragma unroll
      for (int f = 0; f < Work::FIELDS; ++f) fetch(&raw[f][row][place], fields[f] + offset, inside);
    }
  };

  Stream<W> streams[PER];
  fetch_plane(start - before);
#pragma unroll 1
  for (int plane = start - before; plane < last; ++plane) {
    wait_for_fetched();
    __syncthreads();
    for (int run = thread; run < HIGH * (TILE_X / 4); run += THREADS) {
      const int row = run / (TILE_X / 4), place = run % (TILE_X / 4) * 4;
      W four[4];
      windows(
          [&](int i) {
            float voxel[Work::FIELDS];
#pragma unroll
            for (int f = 0; f < Work::FIELDS; ++f) voxel[f] = raw[f][row][place + i];
            return work.window(voxel);
          },
          1.0f, four);
#pragma unroll
      for (int part = 0; part < W::PARTS; ++part)
#pragma unroll
        for (int i = 0; i < 4; ++i) rows[part][row][place + i] = four[i].part[part];
    }
    __syncthreads();
    if (plane + 1 < last) fetch_plane(plane + 1);
    W tiles[PER];
    windows(
        [&](int i) {
          W window;
#pragma unroll
          for (int part = 0; part < W::PARTS; ++part) window.part[part] = rows[part][line + i][column];
          return window;
        },
        static_cast<float>(WINDOW), tiles);
    // Plane `plane` is the last one of the window of plane z.
    const int z = plane - (WINDOW - 1 - before);
#pragma unroll
    for (int i = 0; i < PER; ++i) {
      const W window = streams[i].push(tiles[i], static_cast<float>(WINDOW) * WINDOW);
      const int y = y0 + line + i, x = x0 + column;
      if (z >= start && y < height && x < width)
        work.end(window, static_cast<long long>(sample) * depth * plane_size + z * plane_size + y * width + x);
    }
  }
}

// --- local correlation ------------------------------------------------------------------------------------------------

struct Correlation {
  static constexpr int FIELDS = 2;
  using Window = Moments;
  const float *t, *p, *centres;
  float nr, dr, scale;
  float *by_cross, *by_vt, *means_t, *by_vp, *means_p;
  double sum = 0.0;
  float centre_t, centre_p;

  __device__ const float* field(int f) const { return f ? p : t; }
  __device__ void begin(int sample) {
    centre_t = centres[sample];
    centre_p = centres[sample + gridDim.z / chunks];
  }
  __device__ __forceinline__ Window window(const float (&voxel)[2]) const {
    const float x = voxel[0] - centre_t, y = voxel[1] - centre_p;
    // A window of one voxel has second moments of 0, or of NaN.
    if (WINDOW == 1) return {{x, y, x * 0.0f, y * 0.0f, (x + y) * 0.0f}};
    return {{x, y, 0.0f, 0.0f, 0.0f}};
  }
  __device__ __forceinline__ void end(const Window& window, long long voxel) {
    const float mean_t = window.part[Moments::T], mean_p = window.part[Moments::P];
    const float tt = window.part[Moments::TT], pp = window.part[Moments::PP], tp = window.part[Moments::TP];
    const float product = tt * pp, inverse = 1.0f / (product + dr);
    // Cauchy and Schwarz's bound, which rounding must not break; NaN is in the product too.
    const float value = (fminf(tp * tp, product) + nr) * inverse;
    sum += value;
    if (!by_cross) return;
    const float cross = tp * inverse * (2.0f * scale), variance = value * inverse * (-2.0f * scale);
    by_cross[voxel] = cross;
    // In a flat window every voxel is the mean, and a large factor of their difference is of no account.
    if (by_vt) {
      const float own = tt == 0.0f ? 0.0f : variance * pp;
      by_vt[voxel] = own;
      means_t[voxel] = cross * mean_p + own * mean_t;
    }
    if (by_vp) {
      const float own = pp == 0.0f ? 0.0f : variance * tt;
      by_vp[voxel] = own;
      means_p[voxel] = cross * mean_t + own * mean_p;
    }
  }
  int chunks;
};

// The partial sums of the value, one a block, and what the gradient sums over windows; the five fields may be null.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    correlate(const float* t, const float* p, const float* centres, int depth, int height, int width, int chunk, float nr,
              float dr, float scale, double* partial, float* by_cross, float* by_vt, float* means_t, float* by_vp,
              float* means_p) {
  Correlation work{t, p, centres, nr, dr, scale, by_cross, by_vt, means_t, by_vp, means_p};
  work.chunks = (depth + chunk - 1) / chunk;
  sweep(work, depth, height, width, chunk, (WINDOW - 1) / 2);
  const double sum = block_sum(work.sum);
  if (threadIdx.x == 0) partial[(blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

struct Gradient {
  static constexpr int FIELDS = 3;
  using Window = Sums;
  const float *by_cross, *by_variance, *means;
  const float *own, *other, *centre_own, *centre_other;
  float* gradient;
  float shift_own, shift_other;

  __device__ const float* field(int f) const { return f == 0 ? by_cross : f == 1 ? by_variance : means; }
  __device__ void begin(int sample) {
    shift_own = centre_own[sample];
    shift_other = centre_other[sample];
  }
  __device__ __forceinline__ Window window(const float (&voxel)[3]) const { return {{voxel[0], voxel[1], voxel[2]}}; }
  __device__ __forceinline__ void end(const Window& sums, long long voxel) {
    const float x = own[voxel] - shift_own, y = other[voxel] - shift_other;
    gradient[voxel] = y * sums.part[0] + x * sums.part[1] - sums.part[2];
  }
};

// The gradient by `own`: other S'[by cross] + own S'[by variance] - S'[means], S' the adjoint of the window sum.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    correlation_gradient(const float* by_cross, const float* by_variance, const float* means, const float* own,
                         const float* other, const float* centre_own, const float* centre_other, int depth, int height,
                         int width, int chunk, float* gradient) {
  Gradient work{by_cross, by_variance, means, own, other, centre_own, centre_other, gradient};
  sweep(work, depth, height, width, chunk, WINDOW / 2);
}

// A rough centre of each sample of two images, (2, samples): the mean of a coarse grid of voxels, rounded to the spacing
// of floating-point numbers a little above the largest, so that the difference from it is exact. A block a sample.
extern "C" __global__ void __launch_bounds__(THREADS)
    centre(const float* t, const float* p, int depth, int height, int width, float* centres) {
  __shared__ float largest[THREADS];
  const int thread = threadIdx.x, sizes[3] = {depth, height, width};
  int step[3], first[3], count[3];
  for (int i = 0; i < 3; ++i) {
    step[i] = max(1, sizes[i] / 16);
    first[i] = step[i] / 2;
    count[i] = (sizes[i] - first[i] + step[i] - 1) / step[i];
  }
  const float* image = (blockIdx.y ? p : t) + static_cast<long long>(blockIdx.x) * depth * height * width;
  const int total = count[0] * count[1] * count[2];
  double sum = 0.0;
  float large = 0.0f;
  for (int i = thread; i < total; i += THREADS) {
    const int x = first[2] + i % count[2] * step[2];
    const int y = first[1] + i / count[2] % count[1] * step[1];
    const int z = first[0] + i / count[2] / count[1] * step[0];
    const float voxel = image[(z * height + y) * width + x];
    sum += voxel;
    large = fmaxf(large, fabsf(voxel));
  }
  largest[thread] = large;
  const float mean = static_cast<float>(block_sum(sum) / total);
  for (int half = THREADS / 2; half > 0; half /= 2) {
    if (thread < half) largest[thread] = fmaxf(largest[thread], largest[thread + half]);
    __syncthreads();
  }
  if (thread == 0) {
    const float spread = 2.0f * largest[0];
    centres[blockIdx.y * gridDim.x + blockIdx.x] = (mean + spread) - spread;
  }
}

// Each sample's sum of values: that of its blocks' partial sums. A block a sample.
extern "C" __global__ void __launch_bounds__(THREADS) total_of_partial(const double* partial, int count, double* total) {
  double sum = 0.0;
  for (int i = threadIdx.x; i < count; i += THREADS) sum += partial[static_cast<long long>(blockIdx.x) * count + i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) total[blockIdx.x] = sum;
}

#endif  // WINDOW

#ifdef BINS

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
// before it goes into a double, so that a large background is not rounded.
extern "C" __global__ void __launch_bounds__(FEW)
    histogram(const float* t, const float* p, int voxels, float rate, double* partial) {
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
      if (begin + place < voxels) {
        float w[TAPS];
        const int nearest = parzen((image ? p : t)[offset + begin + place], rate, w);
#pragma unroll
        for (int i = 0; i < TAPS; ++i) {
          const int bin = nearest - RADIUS + i;
          if (bin >= 0 && bin < BINS) strip[bin][place] = w[i];
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
    histogram_gradient(const float* own, const float* other, int voxels, float rate, const float* matrix,
                       float* gradient) {
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
    gradient[offset + voxel] = x < 0.0f || x > 1.0f ? 0.0f : slope;
  }
}

#endif  // BINS

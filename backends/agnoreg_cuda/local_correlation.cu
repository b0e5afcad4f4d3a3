// Squared local correlation in rectangular windows of the width WINDOW, and its gradient.

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

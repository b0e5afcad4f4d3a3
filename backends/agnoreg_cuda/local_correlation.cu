// Local correlation in windows (windows.cuh) and its gradient. Compiled for
//
// FORMULA: one of those in `Formula`, where it is not SQUARED;
// FLAT: 1 where flat windows have a value of their own;
// BLOCK: 1 where the images are a block of larger ones, of which only a box counts in the sums.

enum Formula { SQUARED, SIGNED, BOUNDED, EXACT, EXACT_SIGNED };

#ifndef FORMULA
#define FORMULA SQUARED
#endif
#ifndef FLAT
#define FLAT 0
#endif
#ifndef BLOCK
#define BLOCK 0
#endif
constexpr bool IS_EXACT = FORMULA == EXACT || FORMULA == EXACT_SIGNED;

// Numbers of the formula: the two constants; up to which product of second moments a window is flat, and its value then.
struct Numbers {
  float nr, dr, flat_up_to, flat_value;
};

// What the formula makes of a window: its value, half the derivative by tp, minus those by tt and by pp, and how much it
// counts in the mean.
struct Score {
  float value, by_cross, by_tt, by_pp, counts;

  // The score of a window whose middle has a weight: nothing at all where that is 0.
  __device__ __forceinline__ Score times(float weight) const {
    if (weight == 0.0f) return {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    return {value * weight, by_cross * weight, by_tt * weight, by_pp * weight, counts * weight};
  }
};

// (tp^2 + nr) / (tt pp + dr). In a flat window every voxel is the mean, and a large factor of their difference is of no
// account: then there is no derivative by its second moment.
__device__ __forceinline__ Score squared(float tt, float pp, float tp, const Numbers& numbers) {
  const float product = tt * pp, inverse = 1.0f / (product + numbers.dr);
  // Cauchy and Schwarz's bound, which rounding must not break; NaN is in the product too.
  const float value = (fminf(tp * tp, product) + numbers.nr) * inverse, weight = value * inverse;
  return {value, tp * inverse, tt == 0.0f ? 0.0f : weight * pp, pp == 0.0f ? 0.0f : weight * tt, 1.0f};
}

// (tp^2 + nr) / (max(tt, dr) max(pp, dr))
__device__ __forceinline__ Score bounded(float tt, float pp, float tp, const Numbers& numbers) {
  const float raised_t = fmaxf(tt, numbers.dr), raised_p = fmaxf(pp, numbers.dr), inverse = 1.0f / (raised_t * raised_p);
  const float value = (fminf(tp * tp, tt * pp) + numbers.nr) * inverse, weight = value * inverse;
  return {value, tp * inverse, tt > numbers.dr ? weight * raised_p : 0.0f, pp > numbers.dr ? weight * raised_t : 0.0f,
          1.0f};
}

// (tp + nr) / sqrt(tt pp + dr)
__device__ __forceinline__ Score with_sign(float tt, float pp, float tp, const Numbers& numbers) {
  const float inverse = 1.0f / sqrtf(tt * pp + numbers.dr), value = (tp + numbers.nr) * inverse;
  const float weight = 0.5f * value * inverse * inverse;
  return {value, 0.5f * inverse, tt == 0.0f ? 0.0f : weight * pp, pp == 0.0f ? 0.0f : weight * tt, 1.0f};
}

// tp / sqrt(tt pp) or, if EXACT, its square, without constants. `edge_t` and `edge_p` are the second moments of a window
// whose standard deviation is the rounding error of its intensities: it is flat.
__device__ __forceinline__ Score exact(float tt, float pp, float tp, float edge_t, float edge_p, float flat_value) {
  if (tt <= edge_t || pp <= edge_p) return {flat_value, 0.0f, 0.0f, 0.0f, FLAT};
  // Second moments are multiplied only after taking roots, which stay in the range of float32.
  const float root_t = 1.0f / sqrtf(tt), root_p = 1.0f / sqrtf(pp), both = root_t * root_p;
  const float found = tp * root_t * root_p, value = found > 1.0f ? 1.0f : found < -1.0f ? -1.0f : found;
  const float factor = FORMULA == EXACT ? value : 0.5f, weight = factor * value;
  return {FORMULA == EXACT ? value * value : value, factor * both, weight * root_t * root_t, weight * root_p * root_p,
          1.0f};
}

// The images as the moments are made of them: less a centre, and by the exact formula times a power of two, so that their
// products stay in the range of float32. What each sample is multiplied by is read off its largest intensity.
struct Shift {
  float centre = 0.0f, scale = 1.0f;

  __device__ void of(const float* centres, const float* largest, int sample) {
    centre = centres[sample];
    if constexpr (IS_EXACT) scale = ldexpf(1.0f, -min(max(ilogbf(largest[sample]), -125), 126));
  }
  __device__ __forceinline__ float operator()(float voxel) const {
    return IS_EXACT ? (voxel - centre) * scale : voxel - centre;
  }
  // The rounding error of intensities about a mean.
  __device__ __forceinline__ float rounding(float mean) const {
    return (fabsf(mean) + fabsf(centre * scale)) * (1.0f / (1 << 23));
  }
};

// Planes, lines and entries: first ones, and those after the last.
struct Box {
  int z0, z1, y0, y1, x0, x1;

  __device__ __forceinline__ bool holds(int z, int y, int x) const {
    return z >= z0 && z < z1 && y >= y0 && y < y1 && x >= x0 && x < x1;
  }
};

struct Correlation {
  static constexpr int FIELDS = WEIGHTED ? 3 : 2, WEIGHTS = WEIGHTED ? 2 : -1;
  using Window = Moments;
  const float *t, *p, *weights;
  const float *centre_t, *centre_p, *largest_t, *largest_p;
  Numbers numbers;
  Box box;
  float beyond;  // how much a voxel beyond the border counts, a zero
  float *values, *by_cross, *by_tt, *means_t, *by_pp, *means_p;
  Shift of_t, of_p;
  double sum = 0.0, counted = 0.0;

  __device__ const float* field(int f) const { return f == 2 ? weights : f ? p : t; }
  __device__ void begin(int sample) {
    of_t.of(centre_t, largest_t, sample);
    of_p.of(centre_p, largest_p, sample);
  }
  __device__ __forceinline__ Window window(const float (&voxel)[FIELDS]) const {
    float x = of_t(voxel[0]), y = of_p(voxel[1]);
    if constexpr (WEIGHTED) {
      // Whatever there is.
      if (voxel[2] == 0.0f) x = y = 0.0f;
    }
    Window single = {{x, y}};
    // A window of one voxel has second moments of 0, or of NaN.
    if (Z::SIZE * Y::SIZE * X::SIZE == 1) single = {{x, y, x * 0.0f, y * 0.0f, (x + y) * 0.0f}};
    if constexpr (WEIGHTED) single.part[Moments::W] = voxel[2];
    return single;
  }
  __device__ __forceinline__ Score scored(const Window& window) const {
    const float tt = window.part[Moments::TT], pp = window.part[Moments::PP], tp = window.part[Moments::TP];
    if constexpr (IS_EXACT) {
      float whole = Z::WEIGHT * Y::WEIGHT * X::WEIGHT;
      if constexpr (WEIGHTED) whole = window.part[Moments::W];
      const float edge_t = of_t.rounding(window.part[Moments::T]), edge_p = of_p.rounding(window.part[Moments::P]);
      return exact(tt, pp, tp, edge_t * edge_t * whole, edge_p * edge_p * whole, numbers.flat_value);
    }
    if (FLAT && tt * pp <= numbers.flat_up_to) return {numbers.flat_value, 0.0f, 0.0f, 0.0f, 1.0f};
    return FORMULA == BOUNDED  ? bounded(tt, pp, tp, numbers)
           : FORMULA == SIGNED ? with_sign(tt, pp, tp, numbers)
                               : squared(tt, pp, tp, numbers);
  }
  __device__ __forceinline__ void end(const Window& window, long long voxel, int z, int y, int x) {
    Score score = scored(window);
    if constexpr (WEIGHTED) score = score.times(weights ? weights[voxel] : 1.0f);
    if (!BLOCK || box.holds(z, y, x)) {
      sum += score.value;
      if constexpr (IS_EXACT) counted += score.counts;
    }
    if (values) values[voxel] = score.counts == 0.0f ? nanf("") : score.value;
    if (!by_cross) return;
    const float mean_t = window.part[Moments::T], mean_p = window.part[Moments::P];
    by_cross[voxel] = score.by_cross;
    if (by_tt) {
      by_tt[voxel] = score.by_tt;
      means_t[voxel] = score.by_cross * mean_p - score.by_tt * mean_t;
    }
    if (by_pp) {
      by_pp[voxel] = score.by_pp;
      means_p[voxel] = score.by_cross * mean_t - score.by_pp * mean_p;
    }
  }
};

// The partial sums of the value, one a block, after which come those of how much windows count, by the exact formula. The
// images that follow may be null: the value at every voxel, NaN where nothing counts, and what the gradient sums over
// windows.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    correlate(const float* t, const float* p, const float* weights, const float* centre_t, const float* centre_p,
              const float* largest_t, const float* largest_p, int depth, int height, int width, int chunk, float nr,
              float dr, float flat_up_to, float flat_value, float beyond, int z0, int z1, int y0, int y1, int x0, int x1,
              double* partial, float* values, float* by_cross, float* by_tt, float* means_t, float* by_pp, float* means_p) {
  Correlation work{t, p, weights, centre_t, centre_p, largest_t, largest_p, {nr, dr, flat_up_to, flat_value},
                   {z0, z1, y0, y1, x0, x1}, beyond,
                   values, by_cross, by_tt, means_t, by_pp, means_p};
  sweep<false>(work, depth, height, width, chunk);
  const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const double sum = block_sum(work.sum);
  if (threadIdx.x == 0) partial[block] = sum;
  if constexpr (IS_EXACT) {
    const double counted = block_sum(work.counted);
    if (threadIdx.x == 0) partial[gridDim.z * gridDim.y * gridDim.x + block] = counted;
  }
}

struct Gradient {
  static constexpr int FIELDS = 3, WEIGHTS = -1;
  using Window = Sums;
  const float *by_cross, *by_own, *means;
  const float *own, *other, *weights, *centre_own, *centre_other, *largest_own, *largest_other, *share;
  float factor;
  float* gradient;
  Shift of_own, of_other;

  __device__ const float* field(int f) const { return f == 0 ? by_cross : f == 1 ? by_own : means; }
  __device__ void begin(int sample) {
    of_own.of(centre_own, largest_own, sample);
    of_other.of(centre_other, largest_other, sample);
    factor *= 2.0f * of_own.scale * (share ? share[sample] : 1.0f);
  }
  __device__ __forceinline__ Window window(const float (&voxel)[3]) const { return {{voxel[0], voxel[1], voxel[2]}}; }
  __device__ __forceinline__ void end(const Window& sums, long long voxel, int, int, int) {
    const float x = of_own(own[voxel]), y = of_other(other[voxel]);
    const float half = y * sums.part[0] - x * sums.part[1] - sums.part[2];
    const float weight = weights ? weights[voxel] : 1.0f;
    gradient[voxel] = weight == 0.0f ? 0.0f : half * factor * weight;
  }
};

// The gradient by `own`, `factor` times each sample's share (1 without one): half of it is other S'[by cross] - own
// S'[by own] - S'[means], S' the adjoint of the window sum, times the voxel's weight.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    correlation_gradient(const float* by_cross, const float* by_own, const float* means, const float* own,
                         const float* other, const float* weights, const float* centre_own, const float* centre_other,
                         const float* largest_own, const float* largest_other, const float* share, float factor,
                         int depth, int height, int width, int chunk, float* gradient) {
  Gradient work{by_cross, by_own, means, own, other, weights, centre_own, centre_other, largest_own, largest_other,
                share, factor, gradient};
  sweep<true>(work, depth, height, width, chunk);
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

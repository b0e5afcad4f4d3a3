// Energies of a field's differences, and their gradient, in one pass over the field.
//
// KIND says which differences: 0 central first ones, 1 compact first ones, 2 central second ones, 3 compact second
// ones. DIMS is the number of the field's axes, the last ones of (planes, lines, voxels). A line holds the components of
// a voxel beside each other. Differences are in voxels, without their factor of 1/2 or 1/4.
//
// A thread makes one entry of the gradient. It computes the differences around it anew: what they read is in cache.

constexpr int CENTRAL_FIRST = 0, COMPACT_FIRST = 1, CENTRAL_SECOND = 2, COMPACT_SECOND = 3;
constexpr bool SECOND = KIND == CENTRAL_SECOND || KIND == COMPACT_SECOND;
constexpr int CROP = KIND == CENTRAL_SECOND ? 2 : KIND == COMPACT_FIRST ? 0 : 1;  // voxels that have no difference
constexpr int REACH = KIND == CENTRAL_SECOND ? 2 : 1;                              // how far a difference reads
constexpr int BLOCKS = 4;  // blocks that share a multiprocessor's registers
constexpr int TILE_X = 32, TILE_Y = THREADS / TILE_X;

// One entry of a sample, and what differences around it need.
struct Around {
  const float *field, *weights;  // of the sample; weights of voxels, or null
  int size[3], step[3];          // of the axes: voxels, and entries from one voxel to the next
  float along[3];                // factors of differences along the axes
  bool absolute;
  int place[3], entry;
};

// Whether the voxel has the difference along axis A, or along A and B.
template <int A>
__device__ __forceinline__ bool exists(const int (&place)[3], const int (&size)[3]) {
  bool there = true;
#pragma unroll
  for (int axis = 3 - DIMS; axis < 3; ++axis) {
    const int end = CROP + (KIND == COMPACT_FIRST && axis == A ? 1 : 0);
    there = there && place[axis] >= CROP && place[axis] < size[axis] - end;
  }
  return there;
}

// The difference around an entry, subtracted in an order in which a translation costs no digits.
template <int A, int B>
__device__ __forceinline__ float difference(const float* u, const int (&step)[3]) {
  const int a = step[A], b = step[B];
  if (KIND == COMPACT_FIRST) return u[a] - u[0];
  if (KIND == CENTRAL_FIRST) return u[a] - u[-a];
  if (A != B) return (u[a + b] - u[b - a]) - (u[a - b] - u[-a - b]);
  return (u[REACH * a] - u[0]) - (u[0] - u[-REACH * a]);
}

// What a difference is multiplied by.
template <int A, int B>
__device__ __forceinline__ float factor(const Around& at) {
  if (!SECOND) return at.along[A];
  return at.along[A] * at.along[B] * (KIND == COMPACT_SECOND && A == B ? 4.0f : 1.0f);
}

// How often an energy counts.
template <int A, int B>
constexpr float SHARE = A == B ? 1.0f : 2.0f;

// The difference that is `a` voxels along A and `b` along B from the entry, times its factor, and how much it counts.
// It is 0 where it does not exist or counts for nothing, whatever the field is there. INSIDE: all exist, no mask.
template <int A, int B, bool INSIDE>
__device__ __forceinline__ float counted(const Around& at, int a, int b, float& weight) {
  weight = 1.0f;
  if (!INSIDE) {
    int place[3] = {at.place[0], at.place[1], at.place[2]};
    place[A] += a, place[B] += b;
    if (!exists<A>(place, at.size)) return weight = 0.0f;
    if (at.weights) {
      const float* const here = at.weights + (place[0] * at.size[1] + place[1]) * at.size[2] + place[2];
      weight = *here;
      if (KIND == COMPACT_FIRST) {
        const int next = A == 2 ? 1 : A == 1 ? at.size[2] : at.size[1] * at.size[2];
        weight = fminf(weight, here[next]);
      }
      if (!(weight > 0.0f)) return weight = 0.0f;
    }
  }
  const float* const u = at.field + (at.entry + a * at.step[A] + b * at.step[B]);
  return difference<A, B>(u, at.step) * factor<A, B>(at);
}

// The energy's derivative by the difference, without the factors that all differences have.
template <int A, int B, bool INSIDE>
__device__ __forceinline__ float slope(const Around& at, int a, int b) {
  float weight;
  const float x = counted<A, B, INSIDE>(at, a, b, weight);
  if (SECOND || !at.absolute) return x * weight;
  // NaN passes no comparison, and stays what it is.
  return x > 0.0f ? weight : x < 0.0f ? -weight : x;
}

template <int A, int B, bool INSIDE>
__device__ __forceinline__ float energy_of(const Around& at) {
  float weight;
  const float x = counted<A, B, INSIDE>(at, 0, 0, weight);
  return (!SECOND && at.absolute ? fabsf(x) : x * x) * weight * SHARE<A, B>;
}

// The adjoint of the differences along A, or along A and B: the same neighbours on the other side of the entry.
template <int A, int B, bool INSIDE>
__device__ __forceinline__ float adjoint(const Around& at) {
  float sum;
  if constexpr (A != B) {
    sum = (slope<A, B, INSIDE>(at, -1, -1) - slope<A, B, INSIDE>(at, 1, -1)) -
          (slope<A, B, INSIDE>(at, -1, 1) - slope<A, B, INSIDE>(at, 1, 1));
  } else if constexpr (SECOND) {
    const float here = slope<A, A, INSIDE>(at, 0, 0);
    sum = (slope<A, A, INSIDE>(at, -REACH, 0) - here) - (here - slope<A, A, INSIDE>(at, REACH, 0));
  } else {
    sum = slope<A, A, INSIDE>(at, -1, 0) - slope<A, A, INSIDE>(at, KIND == COMPACT_FIRST ? 0 : 1, 0);
  }
  return sum * (factor<A, B>(at) * SHARE<A, B>);
}

// Add up the energies at the entry, and the adjoints if `back`.
template <bool INSIDE>
__device__ __forceinline__ void gather(const Around& at, bool back, float& energy, float& gradient) {
  energy = energy_of<2, 2, INSIDE>(at);
  if constexpr (DIMS > 1) energy += energy_of<1, 1, INSIDE>(at);
  if constexpr (DIMS > 2) energy += energy_of<0, 0, INSIDE>(at);
  if constexpr (SECOND && DIMS > 1) energy += energy_of<1, 2, INSIDE>(at);
  if constexpr (SECOND && DIMS > 2) energy += energy_of<0, 1, INSIDE>(at) + energy_of<0, 2, INSIDE>(at);
  if (!back) return;
  gradient = adjoint<2, 2, INSIDE>(at);
  if constexpr (DIMS > 1) gradient += adjoint<1, 1, INSIDE>(at);
  if constexpr (DIMS > 2) gradient += adjoint<0, 0, INSIDE>(at);
  if constexpr (SECOND && DIMS > 1) gradient += adjoint<1, 2, INSIDE>(at);
  if constexpr (SECOND && DIMS > 2) gradient += adjoint<0, 1, INSIDE>(at) + adjoint<0, 2, INSIDE>(at);
}

// The partial sums of the energies, one a block, and if it is not null the gradient times `scale`, of the entries of a
// box: `own_planes` planes from `first_plane` on, and so on. `shares` has a factor of each sample's gradient,
// `along_planes` and `along_lines` of its differences; they may be null.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    field_energy(const float* fields, const float* weights, const float* shares, const float* along_planes,
                 const float* along_lines, int planes, int lines, int entries, int first_plane, int first_line,
                 int first_entry, int own_planes, int own_lines, int own_entries, int components, int chunk,
                 int absolute, float by_planes, float by_lines, float scale, double* partial, float* gradient) {
  const int chunks = (own_planes + chunk - 1) / chunk, sample = blockIdx.z / chunks;
  const int start = blockIdx.z % chunks * chunk, stop = min(start + chunk, own_planes);
  const int column = blockIdx.x * TILE_X + threadIdx.x % TILE_X, line = blockIdx.y * TILE_Y + threadIdx.x / TILE_X;
  const int x = first_entry + column, y = first_line + line;
  const int plane_size = lines * entries, voxels = entries / components;
  const long long offset = static_cast<long long>(sample) * planes * plane_size;
  Around at;
  at.field = fields + offset;
  at.weights = weights ? weights + offset / components : nullptr;
  at.size[0] = planes, at.size[1] = lines, at.size[2] = voxels;
  at.step[0] = plane_size, at.step[1] = entries, at.step[2] = components;
  at.along[0] = along_planes ? by_planes * along_planes[sample] : by_planes;
  at.along[1] = along_lines ? by_lines * along_lines[sample] : by_lines;
  at.along[2] = 1.0f;
  at.absolute = absolute != 0;
  const float share = shares ? scale * shares[sample] : scale;
  double sum = 0.0;
  if (column < own_entries && line < own_lines) {
    at.place[1] = y, at.place[2] = x / components;
    // As far as differences reach that read what the entry's own differences read.
    constexpr int MARGIN = CROP + REACH + (KIND == COMPACT_FIRST ? 1 : 0);
    bool middle = !weights && at.place[2] >= MARGIN && at.place[2] < voxels - MARGIN;
    if (DIMS > 1) middle = middle && y >= MARGIN && y < lines - MARGIN;
    for (int local = start; local < stop; ++local) {
      const int plane = first_plane + local;
      at.place[0] = plane, at.entry = plane * plane_size + y * entries + x;
      float energy, slope;
      if (middle && (DIMS < 3 || (plane >= MARGIN && plane < planes - MARGIN))) {
        gather<true>(at, gradient != nullptr, energy, slope);
      } else {
        gather<false>(at, gradient != nullptr, energy, slope);
      }
      sum += energy;
      if (gradient) {
        const long long row = (static_cast<long long>(sample) * own_planes + local) * own_lines + line;
        gradient[row * own_entries + column] = slope * share;
      }
    }
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[(blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

// Windows of a few voxels that slide over the planes of images. Compiled for
//
// WINDOW: the window's width along z, y and x, as three numbers;
// TAPS: the weights of its voxels along these axes, one list after the other, where they are not 1;
// WEIGHTED: 1 where voxels have weights: with a mask, or where windows are cut off at the border.

#ifndef WEIGHTED
#define WEIGHTED 0
#endif

// --- windows ---------------------------------------------------------------------------------------------------------

// The window along one axis: z is 0, y is 1 and x is 2.
template <int AXIS>
struct Axis {
  __device__ static constexpr int size(int axis) {
    constexpr int sizes[] = {WINDOW};
    return sizes[axis];
  }
  static constexpr int SIZE = size(AXIS);

  __device__ static constexpr float tap(int i) {
#ifdef TAPS
    constexpr float taps[] = {TAPS};
    for (int axis = 0; axis < AXIS; ++axis) i += size(axis);
    return taps[i];
#else
    return 1.0f;
#endif
  }
  // The weight of `count` voxels from `first` on.
  __device__ static constexpr float weight(int first, int count) {
    float sum = 0.0f;
    for (int i = first; i < first + count; ++i) sum += tap(i);
    return sum;
  }
  __device__ static constexpr bool is_box() {
    for (int i = 0; i < SIZE; ++i)
      if (tap(i) != 1.0f) return false;
    return true;
  }
  static constexpr bool BOX = is_box();
  static constexpr float WEIGHT = weight(0, SIZE);
};

using Z = Axis<0>;
using Y = Axis<1>;
using X = Axis<2>;

// The means and the centred second moments of two images in a window, and with weights their sum.
struct Moments {
  static constexpr int PARTS = WEIGHTED ? 6 : 5;
  enum { T, P, TT, PP, TP, W };
  float part[PARTS];
};

// Join two windows of weights na and nb: M = Ma + Mb + (mean b - mean a)^2 na nb / (na + nb). Nothing cancels, and flat
// windows have moments of exactly 0. An empty window has means of 0, which then are those of the other one.
__device__ __forceinline__ Moments join(const Moments& a, float na, const Moments& b, float nb) {
  float share, weight;
  if constexpr (WEIGHTED) {
    na = a.part[Moments::W], nb = b.part[Moments::W];
    share = na != 0.0f ? __fdividef(nb, na + nb) : 1.0f;
    weight = na * share;
  } else {
    share = nb / (na + nb);
    weight = na * nb / (na + nb);
  }
  const float dt = b.part[Moments::T] - a.part[Moments::T], dp = b.part[Moments::P] - a.part[Moments::P];
  const float wt = dt * weight, wp = dp * weight;
  Moments both = {{
      a.part[Moments::T] + dt * share,
      a.part[Moments::P] + dp * share,
      a.part[Moments::TT] + b.part[Moments::TT] + dt * wt,
      a.part[Moments::PP] + b.part[Moments::PP] + dp * wp,
      a.part[Moments::TP] + b.part[Moments::TP] + dt * wp,
  }};
  if constexpr (WEIGHTED) both.part[Moments::W] = na + nb;
  return both;
}

// A window of which each voxel counts `tap` times.
__device__ __forceinline__ Moments times(Moments window, float tap) {
#pragma unroll
  for (int part = Moments::TT; part < Moments::PARTS; ++part) window.part[part] *= tap;
  return window;
}

// The sums of three fields over a window.
struct Sums {
  static constexpr int PARTS = 3;
  float part[PARTS];
};

__device__ __forceinline__ Sums join(const Sums& a, float, const Sums& b, float) {
  return {{a.part[0] + b.part[0], a.part[1] + b.part[1], a.part[2] + b.part[2]}};
}

__device__ __forceinline__ Sums times(const Sums& a, float tap) {
  return {{a.part[0] * tap, a.part[1] * tap, a.part[2] * tap}};
}

// Join the COUNT neighbours load(FIRST), load(FIRST + 1), ... of `unit` voxels each, in pairs.
template <class A, int FIRST, int COUNT, class Load>
__device__ __forceinline__ auto joined(const Load& load, float unit) {
  if constexpr (COUNT == 1) {
    constexpr float tap = A::tap(FIRST);
    if constexpr (A::BOX)
      return load(FIRST);
    else
      return times(load(FIRST), tap);
  } else {
    constexpr int half = COUNT / 2;
    constexpr float left = A::weight(FIRST, half), right = A::weight(FIRST + half, COUNT - half);
    return join(joined<A, FIRST, half>(load, unit), left * unit, joined<A, FIRST + half, COUNT - half>(load, unit),
                right * unit);
  }
}

// Make one, two or four neighbouring windows. Boxes share what they have in common.
template <class A, class W, class Load>
__device__ __forceinline__ void windows(const Load& load, float unit, W (&out)[1]) {
  out[0] = joined<A, 0, A::SIZE>(load, unit);
}

template <class A, class W, class Load>
__device__ __forceinline__ void windows(const Load& load, float unit, W (&out)[2]) {
  constexpr int SIZE = A::SIZE;
  if constexpr (SIZE == 1 || !A::BOX) {
#pragma unroll
    for (int i = 0; i < 2; ++i) out[i] = joined<A, 0, SIZE>([&](int j) { return load(i + j); }, unit);
  } else {
    const W middle = joined<A, 1, SIZE - 1>(load, unit);
    out[0] = join(load(0), unit, middle, (SIZE - 1) * unit);
    out[1] = join(middle, (SIZE - 1) * unit, load(SIZE), unit);
  }
}

template <class A, class W, class Load>
__device__ __forceinline__ void windows(const Load& load, float unit, W (&out)[4]) {
  constexpr int SIZE = A::SIZE;
  if constexpr (SIZE < 4 || !A::BOX) {
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = joined<A, 0, SIZE>([&](int j) { return load(i + j); }, unit);
  } else {
    const float most = (SIZE - 3) * unit;
    const W middle = joined<A, 3, SIZE - 3>(load, unit);
    const W left1 = load(2), right1 = load(SIZE);
    const W left2 = join(load(1), unit, left1, unit), right2 = join(right1, unit, load(SIZE + 1), unit);
    out[0] = join(join(load(0), unit, left2, 2 * unit), 3 * unit, middle, most);
    out[1] = join(join(left2, 2 * unit, middle, most), most + 2 * unit, right1, unit);
    out[2] = join(join(left1, unit, middle, most), most + unit, right2, 2 * unit);
    out[3] = join(middle, most, join(right2, 2 * unit, load(SIZE + 2), unit), 3 * unit);
  }
}

// The windows of the last planes, while planes go by. Of boxes, windows of 1, 2, 4, ... planes are made by doubling, and
// those that the binary digits of the width name are joined, the narrowest of them the latest.
template <class A, class W>
struct Stream {
  static constexpr int SIZE = A::SIZE;
  static constexpr int TOP = SIZE >= 32 ? 5 : SIZE >= 16 ? 4 : SIZE >= 8 ? 3 : SIZE >= 4 ? 2 : SIZE >= 2 ? 1 : 0;
  // The latest first. Of boxes, from 2^level - 1 on: the windows of 2^level planes.
  W past[SIZE > 1 ? SIZE - 1 : 1] = {};

  __device__ __forceinline__ W push(W window, float unit) {
    if constexpr (!A::BOX) {
      const W result =
          joined<A, 0, SIZE>([&](int i) { return i < SIZE - 1 ? past[SIZE - 2 - i] : window; }, unit);
#pragma unroll
      for (int i = SIZE - 2; i > 0; --i) past[i] = past[i - 1];
      if constexpr (SIZE > 1) past[0] = window;
      return result;
    } else {
      W result = window;
      int covered = 0;
#pragma unroll
      for (int level = 0; level <= TOP; ++level) {
        const int size = 1 << level, depth = level < TOP ? size : SIZE - size;
        W* const own = past + size - 1;
        if (SIZE & size) {
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
  }
};

// --- the sweep over a block's planes ----------------------------------------------------------------------------------

constexpr int HELD = (Z::SIZE - 1) * Moments::PARTS;  // numbers that a stream of windows keeps in registers
constexpr int PER = HELD <= (Z::BOX ? 40 : 30) ? 2 : 1;  // rows of outputs of a thread, which has a stream for each
constexpr int BLOCKS = HELD <= 75 ? 2 : 1;            // blocks that share a multiprocessor's registers
constexpr int TILE_X = 32;                            // columns of outputs of a block: one a lane
constexpr int TILE_Y = THREADS / TILE_X * PER;
constexpr int WIDE = TILE_X + X::SIZE - 1, HIGH = TILE_Y + Y::SIZE - 1;
// Rows start one bank apart modulo 4, since four neighbours along a row go to one thread.
constexpr int PITCH = (WIDE + 2) / 4 * 4 + 1, ROW = TILE_X + 1;


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
// along z are carried in registers. An even window has one voxel more after its middle; its ADJOINT has that one before.
template <bool ADJOINT, class Work>
__device__ __forceinline__ void sweep(Work& work, int depth, int height, int width, int chunk) {
  constexpr int before_z = (Z::SIZE - !ADJOINT) / 2, before_y = (Y::SIZE - !ADJOINT) / 2;
  constexpr int before_x = (X::SIZE - !ADJOINT) / 2;
  using W = typename Work::Window;
  __shared__ float raw[Work::FIELDS][HIGH][PITCH];
  __shared__ float rows[W::PARTS][HIGH][ROW];
  const int chunks = (depth + chunk - 1) / chunk;
  const int sample = blockIdx.z / chunks, start = blockIdx.z % chunks * chunk, stop = min(start + chunk, depth);
  const int x0 = blockIdx.x * TILE_X, y0 = blockIdx.y * TILE_Y, thread = threadIdx.x;
  const int column = thread % TILE_X, line = thread / TILE_X * PER;
  const int last = stop + Z::SIZE - 1 - before_z, plane_size = height * width;
  const float* fields[Work::FIELDS];
#pragma unroll
  for (int f = 0; f < Work::FIELDS; ++f) fields[f] = work.field(f) + static_cast<long long>(sample) * depth * plane_size;
  work.begin(sample);

  const auto fetch_plane = [&](int z) {
    for (int i = thread; i < HIGH * WIDE; i += THREADS) {
      const int row = i / WIDE, place = i % WIDE, y = y0 - before_y + row, x = x0 - before_x + place;
      const bool inside = z >= 0 && z < depth && y >= 0 && y < height && x >= 0 && x < width;
      const int offset = inside ? z * plane_size + y * width + x : 0;
#pragma unroll
      for (int f = 0; f < Work::FIELDS; ++f) {
        if constexpr (Work::WEIGHTS >= 0) {
          // Without a mask every voxel counts. What counts beyond the border are zeros.
          if (f == Work::WEIGHTS && !(inside && work.field(f))) {
            raw[f][row][place] = inside ? 1.0f : work.beyond;
            continue;
          }
        }
        fetch(&raw[f][row][place], fields[f] + offset, inside);
      }
    }
  };

  Stream<Z, W> streams[PER];
  fetch_plane(start - before_z);
#pragma unroll 1
  for (int plane = start - before_z; plane < last; ++plane) {
    wait_for_fetched();
    __syncthreads();
    for (int run = thread; run < HIGH * (TILE_X / 4); run += THREADS) {
      const int row = run / (TILE_X / 4), place = run % (TILE_X / 4) * 4;
      W four[4];
      windows<X>(
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
    windows<Y>(
        [&](int i) {
          W window;
#pragma unroll
          for (int part = 0; part < W::PARTS; ++part) window.part[part] = rows[part][line + i][column];
          return window;
        },
        X::WEIGHT, tiles);
    // Plane `plane` is the last one of the window of plane z.
    const int z = plane - (Z::SIZE - 1 - before_z);
#pragma unroll
    for (int i = 0; i < PER; ++i) {
      const W window = streams[i].push(tiles[i], X::WEIGHT * Y::WEIGHT);
      const int y = y0 + line + i, x = x0 + column;
      if (z >= start && y < height && x < width)
        work.end(window, static_cast<long long>(sample) * depth * plane_size + z * plane_size + y * width + x, z, y, x);
    }
  }
}

// The CUDA C++ of agnoreg's kernels as plain C++: it says what the arithmetic, the indices and the order of the barriers
// come to, without a card. A block's threads are fibers that take turns, each until it reaches a barrier. Blocks run one
// after the other, so `__shared__` is `static`. Shared memory is not cleared in between, as on a card.

#include <ucontext.h>

#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct Index {
  int x, y, z;
};

static Index threadIdx, blockIdx, gridDim, blockDim;

namespace emulator {

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  bool done;
};

constexpr size_t STACK = 256 * 1024;
static ucontext_t scheduler;
static std::vector<Fiber> fibers;
static Fiber* current;
static const std::function<void()>* body;

static void enter() {
  (*body)();
  current->done = true;
  swapcontext(&current->context, &scheduler);
}

// Run one block. Return whether every thread came to the same number of barriers. Threads that take turns in another
// order give another result where a barrier is missing.
static bool run_block(int threads, int order, const std::function<void()>& kernel) {
  body = &kernel;
  fibers.resize(threads);
  for (Fiber& fiber : fibers) {
    if (fiber.stack.empty()) fiber.stack.resize(STACK);
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
  }
  for (int left = threads; left > 0;) {
    const int before = left;
    for (int turn = 0; turn < threads; ++turn) {
      // 0: forwards, 1: backwards, 2: in an order of its own (129 is prime to the number of threads).
      const int thread = order == 0 ? turn : order == 1 ? threads - 1 - turn : turn * 129 % threads;
      current = &fibers[thread];
      if (current->done) return false;
      threadIdx = {thread, 0, 0};
      swapcontext(&scheduler, &current->context);
      left -= current->done;
    }
    if (left != 0 && left != before) return false;
  }
  return true;
}

}  // namespace emulator

static void __syncthreads() {
  emulator::Fiber* const self = emulator::current;
  const Index mine = threadIdx;
  swapcontext(&self->context, &emulator::scheduler);
  threadIdx = mine;
}

using std::max;
using std::min;

static inline float __fdividef(float a, float b) { return a / b; }

#include SOURCE

namespace emulator {

template <class... A, size_t... I>
static std::function<void()> unpack(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  std::tuple<A...> values{*static_cast<A*>(arguments[I])...};
  return [=] { std::apply(kernel, values); };
}

template <class... A>
static std::function<void()> unpack(void (*kernel)(A...), void** arguments) {
  return unpack(kernel, arguments, std::index_sequence_for<A...>());
}

static std::function<void()> find(const char* name, void** arguments) {
#define KERNEL(kernel) \
  if (std::strcmp(name, #kernel) == 0) return unpack(kernel, arguments);
  KERNELS
#undef KERNEL
  return nullptr;
}

}  // namespace emulator

// As cuLaunchKernel: `arguments` holds the address of each. 0: done, 1: no such kernel, 2: threads parted at a barrier.
extern "C" __attribute__((visibility("default"))) int launch(const char* name, const int* grid, int threads, int order, void** arguments) {
  const std::function<void()> kernel = emulator::find(name, arguments);
  if (!kernel) return 1;
#ifdef __SSE__
  // CuPy has subnormal numbers taken for zeros, of operands and of results.
  const struct Control {
    unsigned kept = _mm_getcsr();
    Control() { _mm_setcsr(kept | 0x8040); }
    ~Control() { _mm_setcsr(kept); }
  } control;
#endif
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {threads, 1, 1};
  for (int z = 0; z < grid[2]; ++z)
    for (int y = 0; y < grid[1]; ++y)
      for (int x = 0; x < grid[0]; ++x) {
        blockIdx = {x, y, z};
        if (!emulator::run_block(threads, order, kernel)) return 2;
      }
  return 0;
}

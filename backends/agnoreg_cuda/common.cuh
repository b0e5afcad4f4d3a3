// What all kernels of agnoreg for CUDA cards share. This text is put before that of another file, and NVRTC compiles both
// when a kernel is first used. Plain CUDA C++, without includes.
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

// Each sample's sum of values: that of its blocks' partial sums. A block a sample.
extern "C" __global__ void __launch_bounds__(THREADS) total_of_partial(const double* partial, int count, double* total) {
  double sum = 0.0;
  for (int i = threadIdx.x; i < count; i += THREADS) sum += partial[static_cast<long long>(blockIdx.x) * count + i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) total[blockIdx.x] = sum;
}

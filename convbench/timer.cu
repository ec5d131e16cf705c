// Kernels of the measuring engine.
//   hold   one thread keeps the stream busy until the host sets a flag in mapped memory (or a time limit is over)
//   stamp  writes SM cycle counter and global nanosecond timer of one fixed SM: two stamps give its mean clock
//   spin   keeps a stream busy for a number of SM cycles: work of known length
//   empty  the launch floor
//   sink   overwrites a buffer much larger than the L2 cache, so that what follows starts cold
//   touch  reads a buffer, so that as much of it as fits is in the cache

__device__ __forceinline__ unsigned long long nanoseconds() {
    unsigned long long now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

extern "C" __global__ void hold(volatile int *flag, volatile int *gave_up, unsigned long long limit_ns) {
    const unsigned long long start = nanoseconds();
    while (*flag == 0) {
        if (nanoseconds() - start > limit_ns) {
            *gave_up = 1;
            __threadfence_system();
            return;
        }
    }
}

// Launched with several blocks an SM; the first to arrive on SM 0 writes, so that both stamps read one counter.
extern "C" __global__ void stamp(unsigned long long *out, int *taken, int turn) {
    unsigned sm;
    asm volatile("mov.u32 %0, %%smid;" : "=r"(sm));
    if (sm == 0 && atomicCAS(taken, turn - 1, turn) == turn - 1) {
        out[0] = clock64();
        out[1] = nanoseconds();
    }
}

extern "C" __global__ void spin(long long cycles) {
    const long long start = clock64();
    while (clock64() - start < cycles) {
    }
}

extern "C" __global__ void empty() {}

extern "C" __global__ void sink(float4 *buffer, long long count, float value) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        buffer[i] = make_float4(value, value, value, value);
}

extern "C" __global__ void touch(const int4 *buffer, long long count, int *never) {
    const long long step = (long long)gridDim.x * blockDim.x;
    int seen = 0;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
        const int4 line = buffer[i];
        seen |= line.x | line.y | line.z | line.w;
    }
    if (count < 0) *never = seen;
}

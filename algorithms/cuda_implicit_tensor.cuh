// Tensor cores and asynchronous copies: each function is one instruction of PTX.
//
// A row of a matrix in shared memory has 128 bytes, eight chunks of 16 that are swizzled: chunk c of row r
// lies where chunk c ^ (r % 8) would. wgmma knows this order; ldmatrix is given addresses in it.
#pragma once

#include "gpu.cuh"

// How bulk copies find a tensor in global memory, as the driver encodes it.
struct alignas(64) TensorMap {
    unsigned char opaque[128];
};

#ifdef __CUDA_EMULATOR__
#include "cuda_tensor.h" // the same functions for a CPU
#else

#define ASM asm volatile

// Where in shared memory this is, in bytes.
__device__ __forceinline__ unsigned shared_address(const void *at) {
    return (unsigned)__cvta_generic_to_shared(at);
}

// ---- copies ----------------------------------------------------------------------------------------------

// 16 bytes from global to shared memory; zeros instead where there is nothing.
__device__ __forceinline__ void copy_chunk(unsigned to, const uint4 *from, bool there) {
    ASM("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0));
}
__device__ __forceinline__ void commit_copies() { ASM("cp.async.commit_group;"); }
template <int PENDING> __device__ __forceinline__ void wait_for_copies() {
    ASM("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// ---- any tensor core -------------------------------------------------------------------------------------

template <bool TRANSPOSED> __device__ __forceinline__ void load_matrices(unsigned (&to)[4], unsigned from) {
    if (TRANSPOSED)
        ASM("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(to[0]),
            "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(from) : "memory");
    else
        ASM("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(to[0]), "=r"(to[1]),
            "=r"(to[2]), "=r"(to[3]) : "r"(from) : "memory");
}

#define MMA(T)                                                                                               \
    ASM("mma.sync.aligned.m16n8k16.row.col.f32." T "." T ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "         \
        "{%8, %9}, {%0, %1, %2, %3};" : "+f"(d[0]),                                                          \
        "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))

template <bool BF16>
__device__ __forceinline__ void mma(float *d, const unsigned (&a)[4], unsigned b0, unsigned b1) {
    if (BF16)
        MMA("bf16");
    else
        MMA("f16");
}

// ---- tensor cores of Hopper ------------------------------------------------------------------------------

// What threads have copied is seen by wgmma.
__device__ __forceinline__ void show_copies() {
#if __CUDA_ARCH__ >= 900
    ASM("fence.proxy.async.shared::cta;" :: : "memory");
#endif
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
__device__ __forceinline__ void begin_wgmma() { ASM("wgmma.fence.sync.aligned;" :: : "memory"); }
__device__ __forceinline__ void commit_wgmma() { ASM("wgmma.commit_group.sync.aligned;" :: : "memory"); }
template <int PENDING> __device__ __forceinline__ void wait_for_wgmma() {
    ASM("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

#define AT8(i)                                                                                               \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]),              \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define AT32(i) AT8(i), AT8(i + 8), AT8(i + 16), AT8(i + 24)
#define AT64(i) AT32(i), AT32(i + 32)
#define NAMES32                                                                                              \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "   \
    "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define NAMES64                                                                                              \
    NAMES32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, "   \
            "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define NAMES96                                                                                              \
    NAMES64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, "   \
            "%82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define NAMES128                                                                                             \
    NAMES96 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, "       \
            "%111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, "     \
            "%126, %127"
#define ISSUE(T, N, NAMES, A, B, ADD, LEFT, RIGHT, ...)                                                      \
    ASM("{\n.reg .pred add;\nsetp.ne.b32 add, " ADD ", 0;\n"                                                 \
        "wgmma.mma_async.sync.aligned.m64n" N "k16.f32." T "." T " {" NAMES "}, " A ", " B                   \
        ", add, 1, 1, " LEFT ", " RIGHT ";\n}" : __VA_ARGS__ : "l"(a),                                       \
        "l"(b), "r"(add), "n"(LEFT_OUTERMOST), "n"(OUTERMOST))
#define WGMMA_OF(T)                                                                                          \
    if constexpr (N == 64)                                                                                   \
        ISSUE(T, "64", NAMES32, "%32", "%33", "%34", "%35", "%36", AT32(0));                                        \
    else if constexpr (N == 128)                                                                             \
        ISSUE(T, "128", NAMES64, "%64", "%65", "%66", "%67", "%68", AT64(0));                                       \
    else if constexpr (N == 192)                                                                             \
        ISSUE(T, "192", NAMES96, "%96", "%97", "%98", "%99", "%100", AT64(0), AT32(64));                             \
    else                                                                                                     \
        ISSUE(T, "256", NAMES128, "%128", "%129", "%130", "%131", "%132", AT64(0), AT64(64));

// d = a b, or d += a b: 64 x N results of a warpgroup over 16 terms. OUTERMOST: rows are terms of the
// reduction, of b and, unless it is said otherwise, of a. The results may not be touched before they were waited
// for.
template <int N, bool BF16, bool OUTERMOST, bool LEFT_OUTERMOST = OUTERMOST>
__device__ __forceinline__ void wgmma(float *d, unsigned long long a, unsigned long long b, int add) {
    static_assert(N == 64 || N == 128 || N == 192 || N == 256);
    if constexpr (BF16) {
        WGMMA_OF("bf16")
    } else {
        WGMMA_OF("f16")
    }
}
#endif // Hopper

// ---- bulk copies: one thread has whole tiles copied, and all wait at a barrier for their bytes -----------

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ void init_arrivals(unsigned barrier) {
    ASM("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void show_barriers() { ASM("fence.mbarrier_init.release.cluster;" :: : "memory"); }
__device__ __forceinline__ void expect_bytes(unsigned barrier, int bytes) {
    ASM("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// Wait for the end of a phase: they are 0, 1, 0, 1 and so on.
__device__ __forceinline__ void wait_for_bytes(unsigned barrier, int phase) {
    int done;
    do {
        ASM("{\n.reg .pred done;\nmbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
            "selp.b32 %0, 1, 0, done;\n}" : "=r"(done) : "r"(barrier),
            "r"(phase) : "memory");
    } while (!done);
}

// A box of a matrix, or of one matrix among several.
__device__ __forceinline__ void copy_box(unsigned to, const TensorMap &map, int x, int y, unsigned barrier) {
    ASM("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
        "[%4];" ::"r"(to),
        "l"(&map), "r"(x), "r"(y), "r"(barrier) : "memory");
}
__device__ __forceinline__ void copy_box(unsigned to, const TensorMap &map, int x, int y, int z,
                                         unsigned barrier) {
    ASM("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], "
        "[%1, {%2, %3, %4}], [%5];" ::"r"(to),
        "l"(&map), "r"(x), "r"(y), "r"(z), "r"(barrier) : "memory");
}
// Channels of pixels that follow one another in the order of results, shifted by a tap.
__device__ __forceinline__ void copy_pixels(unsigned to, const TensorMap &map, int c, int w, int h, int n,
                                            int tap_col, int tap_row, unsigned barrier) {
    ASM("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], "
        "[%1, {%2, %3, %4, %5}], [%6], {%7, %8};" ::"r"(to),
        "l"(&map), "r"(c), "r"(w), "r"(h), "r"(n), "r"(barrier), "h"((unsigned short)tap_col),
        "h"((unsigned short)tap_row) : "memory");
}
#else // compiled for the sake of other kernels
__device__ __forceinline__ void init_arrivals(unsigned) {}
__device__ __forceinline__ void show_barriers() {}
__device__ __forceinline__ void expect_bytes(unsigned, int) {}
__device__ __forceinline__ void wait_for_bytes(unsigned, int) {}
__device__ __forceinline__ void copy_box(unsigned, const TensorMap &, int, int, unsigned) {}
__device__ __forceinline__ void copy_box(unsigned, const TensorMap &, int, int, int, unsigned) {}
__device__ __forceinline__ void copy_pixels(unsigned, const TensorMap &, int, int, int, int, int, int,
                                            unsigned) {}
#endif

// The compiler may not move what uses these values to before this.
template <int COUNT> __device__ __forceinline__ void settle(float (&values)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i)
        ASM("" : "+f"(values[i])::"memory");
}
#endif // no emulator

// A matrix in shared memory as wgmma is told of it: where it begins, bytes from 64 columns to the next (where
// rows are terms of the reduction), bytes from 8 rows to the next; the swizzle of 128 bytes.
__device__ __forceinline__ unsigned long long describe(unsigned address, int columns, int rows) {
    return (address & 0x3ffff) >> 4 | (unsigned long long)(columns >> 4) << 16 |
           (unsigned long long)(rows >> 4) << 32 | 1ull << 62;
}

// CUDA C++ for a CPU: enough for g++ to compile our .cu files and run them block by block, threads as fibers.
//
// Differences from a GPU: blocks run one after the other; a thread runs until it waits; __shared__ variables
// keep what the last block left in them, dynamic shared memory starts as NaN; products and sums are not
// contracted.
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>
#include <utility>

#define __CUDA_EMULATOR__ 1
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

// ---- vector types ---------------------------------------------------------------------------------------

#define EMULATE_VECTORS(T, name, align2, align4)                       \
    struct name##1 { T x; };                                           \
    struct alignas(align2) name##2 { T x, y; };                        \
    struct name##3 { T x, y, z; };                                     \
    struct alignas(align4) name##4 { T x, y, z, w; };                  \
    inline name##1 make_##name##1(T x) { return {x}; }                 \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }         \
    inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; } \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

EMULATE_VECTORS(signed char, char, 2, 4)
EMULATE_VECTORS(unsigned char, uchar, 2, 4)
EMULATE_VECTORS(short, short, 4, 8)
EMULATE_VECTORS(unsigned short, ushort, 4, 8)
EMULATE_VECTORS(int, int, 8, 16)
EMULATE_VECTORS(unsigned, uint, 8, 16)
EMULATE_VECTORS(long long, longlong, 16, 16)
EMULATE_VECTORS(unsigned long long, ulonglong, 16, 16)
EMULATE_VECTORS(float, float, 8, 16)
EMULATE_VECTORS(double, double, 16, 16)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// ---- what runtime.cpp does ------------------------------------------------------------------------------

namespace emulator {
extern char dynamic_shared[];
void wait_for_block();
void wait_for_warp(unsigned mask);
unsigned lane();
constexpr unsigned SLOT = 16;  // bytes of a value that lanes exchange, at most
char *slots();                 // one of the calling thread's warp for each lane
int launch(void (*body)(void *), void *context, const unsigned *grid, const unsigned *block, size_t shared);

// All lanes of the mask show their value; each then takes what `pick` makes of everyone's.
template <class T, class Pick> auto exchange(unsigned mask, T value, Pick pick) {
    static_assert(sizeof(T) <= SLOT);
    memcpy(slots() + lane() * SLOT, &value, sizeof(T));
    wait_for_warp(mask);
    const auto picked = pick([](unsigned from) {
        T seen;
        memcpy(&seen, slots() + from * SLOT, sizeof(T));
        return seen;
    });
    wait_for_warp(mask);
    return picked;
}

template <class T, class Combine> T reduce(unsigned mask, T value, Combine combine) {
    return exchange(mask, value, [&](auto seen) {
        bool first = true;
        T sum = value;
        for (unsigned i = 0; i < 32; ++i)
            if (mask >> i & 1) sum = first ? (first = false, seen(i)) : combine(sum, seen(i));
        return sum;
    });
}

// How an argument has to arrive: p a pointer, i an integer, f a floating-point number, s a struct.
template <class T>
constexpr char kind = std::is_pointer_v<T>          ? 'p'
                      : std::is_integral_v<T>       ? 'i'
                      : std::is_floating_point_v<T> ? 'f'
                                                    : 's';

template <class... A> struct Call {
    void (*kernel)(A...);
    void **arguments;
    template <size_t... I> void run(std::index_sequence<I...>) const {
        kernel(*static_cast<std::remove_cv_t<std::remove_reference_t<A>> *>(arguments[I])...);
    }
    static void body(void *self) { static_cast<Call *>(self)->run(std::index_sequence_for<A...>()); }
};

template <class... A>
int start(void (*kernel)(A...), void **arguments, const unsigned *grid, const unsigned *block,
          size_t shared) {
    Call<A...> call = {kernel, arguments};
    return launch(Call<A...>::body, &call, grid, block, shared);
}

// Kinds and sizes of the parameters, each as a letter and a number.
template <class... A> void describe(void (*)(A...), char *kinds, size_t *sizes) {
    const char all[] = {kind<std::remove_cv_t<A>>..., 0};
    const size_t bytes[] = {sizeof(A)..., 0};
    memcpy(kinds, all, sizeof(all));
    memcpy(sizes, bytes, sizeof(bytes));
}
}  // namespace emulator

// ---- threads of a block and of a warp -------------------------------------------------------------------

inline void __syncthreads() { emulator::wait_for_block(); }
inline void __syncwarp(unsigned mask = ~0u) { emulator::wait_for_warp(mask); }
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class T> T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
    const unsigned lane = emulator::lane();
    return emulator::exchange(mask, value,
                              [&](auto seen) { return seen((lane & -width) | (from & (width - 1))); });
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    const unsigned lane = emulator::lane(), from = lane ^ bits;
    return emulator::exchange(mask, value,
                              [&](auto seen) { return seen(from / width == lane / width ? from : lane); });
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    const unsigned lane = emulator::lane();
    return emulator::exchange(mask, value,
                              [&](auto seen) { return seen(lane % width < delta ? lane : lane - delta); });
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
    const unsigned lane = emulator::lane();
    return emulator::exchange(mask, value, [&](auto seen) {
        return seen(lane % width + delta < (unsigned)width ? lane + delta : lane);
    });
}

inline unsigned __ballot_sync(unsigned mask, int vote) {
    return emulator::reduce(mask, vote ? 1u << emulator::lane() : 0u,
                            [](unsigned a, unsigned b) { return a | b; });
}
inline int __any_sync(unsigned mask, int vote) { return __ballot_sync(mask, vote) != 0; }
inline int __all_sync(unsigned mask, int vote) { return __ballot_sync(mask, !vote) == 0; }
template <class T> T __reduce_add_sync(unsigned mask, T value) {
    return emulator::reduce(mask, value, [](T a, T b) { return a + b; });
}
template <class T> T __reduce_max_sync(unsigned mask, T value) {
    return emulator::reduce(mask, value, [](T a, T b) { return a < b ? b : a; });
}
template <class T> T __reduce_min_sync(unsigned mask, T value) {
    return emulator::reduce(mask, value, [](T a, T b) { return b < a ? b : a; });
}

// ---- memory ---------------------------------------------------------------------------------------------

template <class T> T __ldg(const T *from) { return *from; }
template <class T> T __ldcg(const T *from) { return *from; }
template <class T> T __ldcs(const T *from) { return *from; }
template <class T> T __ldlu(const T *from) { return *from; }
template <class T> void __stcg(T *to, T value) { *to = value; }
template <class T> void __stcs(T *to, T value) { *to = value; }
template <class T> void __stwt(T *to, T value) { *to = value; }

template <class T, class Change> T emulate_atomic(T *at, Change change) {
    const T old = *at;
    *at = change(old);
    return old;
}
template <class T, class U> T atomicAdd(T *at, U value) {
    return emulate_atomic(at, [=](T old) { return T(old + value); });
}
template <class T, class U> T atomicSub(T *at, U value) {
    return emulate_atomic(at, [=](T old) { return T(old - value); });
}
template <class T, class U> T atomicMax(T *at, U v) {
    return emulate_atomic(at, [=](T old) { return old < T(v) ? T(v) : old; });
}
template <class T, class U> T atomicMin(T *at, U v) {
    return emulate_atomic(at, [=](T old) { return T(v) < old ? T(v) : old; });
}
template <class T, class U> T atomicOr(T *at, U value) {
    return emulate_atomic(at, [=](T old) { return T(old | value); });
}
template <class T, class U> T atomicAnd(T *at, U value) {
    return emulate_atomic(at, [=](T old) { return T(old & value); });
}
template <class T, class U> T atomicExch(T *at, U value) {
    return emulate_atomic(at, [=](T) { return T(value); });
}
template <class T, class U, class V> T atomicCAS(T *at, U expected, V value) {
    return emulate_atomic(at, [=](T old) { return old == T(expected) ? T(value) : old; });
}

// ---- arithmetic -----------------------------------------------------------------------------------------

#define EMULATE_MIN_MAX(A, B, R)                                    \
    constexpr R min(A a, B b) { return (R)b < (R)a ? (R)b : (R)a; } \
    constexpr R max(A a, B b) { return (R)a < (R)b ? (R)b : (R)a; }

EMULATE_MIN_MAX(int, int, int)
EMULATE_MIN_MAX(unsigned, unsigned, unsigned)
EMULATE_MIN_MAX(int, unsigned, unsigned)
EMULATE_MIN_MAX(unsigned, int, unsigned)
EMULATE_MIN_MAX(long, long, long)
EMULATE_MIN_MAX(unsigned long, unsigned long, unsigned long)
EMULATE_MIN_MAX(long long, long long, long long)
EMULATE_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

template <class To, class From> To emulate_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof(to));
    return to;
}
inline int __float_as_int(float x) { return emulate_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emulate_bits<unsigned>(x); }
inline float __int_as_float(int x) { return emulate_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emulate_bits<float>(x); }
inline long long __double_as_longlong(double x) { return emulate_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return emulate_bits<double>(x); }

inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1 / a; }
inline float rsqrtf(float a) { return 1 / sqrtf(a); }
inline float __saturatef(float a) { return a > 0 ? (a < 1 ? a : 1) : 0; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline int __float2int_rn(float a) { return (int)nearbyintf(a); }
inline int __float2int_rd(float a) { return (int)floorf(a); }
inline int __float2int_rz(float a) { return (int)a; }
inline float __int2float_rn(int a) { return (float)a; }
inline float __double2float_rn(double a) { return (float)a; }

inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned long long)a * b >> 32; }
inline int __mulhi(int a, int b) { return (long long)a * b >> 32; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned __int128)a * b >> 64;
}
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __clz(int a) { return a ? __builtin_clz(a) : 32; }
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned by) {
    return ((unsigned long long)high << 32 | low) >> (by & 31);
}

#include "cuda_halves.h"

// The rows of the input that a thread of cuda_direct_window.cuh reads before it needs them.
#pragma once

#include "cuda_direct.cuh"

constexpr int BLOCK = 128, ACROSS = 4;  // threads of a block, columns of a thread in NHWC

// Copy a pack to shared memory, or clear it there, without waiting.
template <int COUNT>
__device__ __forceinline__ void copy_pack(Side<COUNT> *to, const Scalar *from, bool real) {
#ifdef __CUDA_ARCH__
    const unsigned place = __cvta_generic_to_shared(to), size = real ? sizeof(*to) : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(place), "l"(from), "n"(sizeof(*to)),
                 "r"(size)
                 : "memory");
#else
    *to = {};
    if (real)
        *to = *reinterpret_cast<const Side<COUNT> *>(from);
#endif
}

// What a thread sees of its input: `rows` rows of an image from h on, columns from v on.
struct View {
    int h, rows, high, v, wide, pixel;
    __device__ __forceinline__ bool has(int i) const { return i < rows && unsigned(h + i) < unsigned(high); }
};

// AHEAD rows of the view, still as they are stored. NCHW, in registers: whole packs of pixels and what lies beside
// them, half the filter wide.
template <int FILTER, int STEP, int PACK, int AHEAD, int KIND = NHWC ? 0 : sizeof(Scalar)>
struct Lines {
    static constexpr int LEFT = FILTER / 2, MIDDLE = PACK * STEP;
    static constexpr int RIGHT = FILTER - LEFT > STEP ? FILTER - LEFT - STEP : 0;
    using Left = Side<LEFT>;
    using Right = Side<(RIGHT > 0 ? RIGHT : 1)>;
    Left left[AHEAD];
    Side<PACK> middle[AHEAD][STEP];
    Right right[AHEAD];
    int h;
    unsigned left_end, end, right_end;  // of the rows; 0 where there are no such columns

    __device__ __forceinline__ Lines(const View &view)
        : h(view.h), end(max(min(view.h + view.rows, view.high), 0)) {
        left_end = view.v >= 0 ? end : 0;
        right_end = RIGHT && view.v + LEFT + MIDDLE < view.wide ? end : 0;
    }
    // The i-th row; x is where its columns begin.
    __device__ __forceinline__ void load(int slot, const Scalar *x, int i) {
        const unsigned row = h + i;
        left[slot] = row < left_end ? *reinterpret_cast<const Left *>(x) : Left{};
#pragma unroll
        for (int j = 0; j < STEP; ++j) {
            middle[slot][j] = {};
            if (row < end)
                middle[slot][j] = *reinterpret_cast<const Side<PACK> *>(x + LEFT + j * PACK);
        }
        right[slot] = row < right_end ? *reinterpret_cast<const Right *>(x + LEFT + MIDDLE) : Right{};
    }
    __device__ __forceinline__ void wait(int) const {}
    __device__ __forceinline__ void get(int slot, int j, Real (&value)[1]) const {
        value[0] = widen(j < LEFT            ? left[slot].get(j)
                         : j < LEFT + MIDDLE ? middle[slot][(j - LEFT) / PACK].get((j - LEFT) % PACK)
                                             : right[slot].get(j - LEFT - MIDDLE));
    }
};

// The same in 16 bits, where pairs beside the packs would have to be taken apart.
template <int FILTER, int STEP, int PACK, int AHEAD>
struct Lines<FILTER, STEP, PACK, AHEAD, 2> {
    static constexpr int LEFT = FILTER / 2, MIDDLE = PACK * STEP;
    static constexpr int RIGHT = FILTER - LEFT > STEP ? FILTER - LEFT - STEP : 0;
    Scalar left[AHEAD][LEFT], right[AHEAD][RIGHT ? RIGHT : 1];
    Side<PACK> middle[AHEAD][STEP];
    View view;

    __device__ __forceinline__ Lines(const View &view) : view(view) {}
    __device__ __forceinline__ void load(int slot, const Scalar *x, int i) {
        const bool inside = view.has(i);
#pragma unroll
        for (int j = 0; j < LEFT; ++j)
            left[slot][j] = inside && view.v + j >= 0 ? x[j] : Scalar(0);
#pragma unroll
        for (int j = 0; j < STEP; ++j) {
            middle[slot][j] = {};
            if (inside && view.v + LEFT + j * PACK < view.wide)
                middle[slot][j] = *reinterpret_cast<const Side<PACK> *>(x + LEFT + j * PACK);
        }
#pragma unroll
        for (int j = 0; j < RIGHT; ++j)
            right[slot][j] =
                inside && view.v + LEFT + MIDDLE + j < view.wide ? x[LEFT + MIDDLE + j] : Scalar(0);
    }
    // sm_100 would widen bfloat16 as soon as it is here, and keep twice the registers.
    __device__ __forceinline__ void wait(int slot) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
        for (auto &pack : middle[slot])
            for (unsigned &word : pack.words)
                asm volatile("" : "+r"(word));
#endif
    }
    __device__ __forceinline__ void get(int slot, int j, Real (&value)[1]) const {
        value[0] = widen(j < LEFT            ? left[slot][j]
                         : j < LEFT + MIDDLE ? middle[slot][(j - LEFT) / PACK].get((j - LEFT) % PACK)
                                             : right[slot][j - LEFT - MIDDLE]);
    }
};

// NHWC, in shared memory, since registers hold the filters: a pack of channels of every pixel. A thread reads
// only what it has copied itself.
template <int FILTER, int STEP, int PACK, int AHEAD>
struct Lines<FILTER, STEP, PACK, AHEAD, 0> {
    static constexpr int WIDTH = (ACROSS - 1) * STEP + FILTER;
    Side<PACK> (*at)[WIDTH][BLOCK];
    View view;

    __device__ __forceinline__ Lines(const View &view) : view(view) {
        __shared__ Side<PACK> ring[AHEAD][WIDTH][BLOCK];
        at = ring;
    }
    __device__ __forceinline__ void load(int slot, const Scalar *x, int i) {
        const bool inside = view.has(i);
#pragma unroll
        for (int j = 0; j < WIDTH; ++j)
            copy_pack(&at[slot][j][threadIdx.x], x + j * view.pixel,
                      inside && unsigned(view.v + j) < unsigned(view.wide));
#ifdef __CUDA_ARCH__
        asm volatile("cp.async.commit_group;" ::: "memory");
#endif
    }
    // Until the first of the AHEAD rows that were loaded last is here.
    __device__ __forceinline__ void wait(int) const {
#ifdef __CUDA_ARCH__
        asm volatile("cp.async.wait_group %0;" ::"n"(AHEAD - 1) : "memory");
#endif
    }
    __device__ __forceinline__ void get(int slot, int j, Real (&value)[PACK]) const {
        const Side<PACK> pack = at[slot][j][threadIdx.x];
#pragma unroll
        for (int c = 0; c < PACK; ++c)
            value[c] = widen(pack.get(c));
    }
};

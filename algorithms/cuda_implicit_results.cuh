// From the sums of a block to the result, by way of shared memory: whole lines are written in either layout.
#pragma once

#include "cuda_implicit.cuh"
#include "cuda_implicit_scale.cuh"

// Where results go: row i, column j to rows + i * row_step + columns[j], where that is not negative.
struct Target {
    long long rows, row_step;
    int rows_left;
    bool vectors; // neighbours down the rows are neighbours in memory, and may be written several at once
};

// Sums to shared memory, as [column][row] or as [row][column]; padded, so that all banks are met.
template <class T> __device__ __forceinline__ void keep(float *tile, const float (&sum)[T::SUMS], bool down) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < T::SUMS; ++i) {
        const int row = first_row<T>(i / 4) + lane / 4 + i % 4 / 2 * 8;
        const int col = first_col<T>(i / 4) + lane % 4 * 2 + i % 2;
        tile[down ? col * (T::M + 4) + row : row * (T::N + 8) + col] = sum[i];
    }
    __syncthreads();
}

template <class T, class Out>
__device__ __forceinline__ void write(Out *out, const float *tile, const long long *columns, const Target &to,
                                      bool down, const int *scale, int more) {
    constexpr int V = 16 / sizeof(Out);
    const Unscale unscale(scale);
    out += to.rows;
    if (down && to.vectors) {
        for (int i = threadIdx.x; i < T::M / V * T::N; i += THREADS) {
            const int row = i % (T::M / V) * V, col = i / (T::M / V);
            if (row >= to.rows_left || columns[col] < 0)
                continue;
            Pack<Out, V> pack;
#pragma unroll
            for (int v = 0; v < V; ++v)
                pack.at[v] = from_float<Out>(unscale(tile[col * (T::M + 4) + row + v]));
            store_pack(out + columns[col] + row, pack);
        }
        return;
    }
    for (int i = threadIdx.x; i < T::M * T::N; i += THREADS) {
        const int row = down ? i % T::M : i / T::N, col = down ? i / T::M : i % T::N;
        const float value = tile[down ? col * (T::M + 4) + row : row * (T::N + 8) + col];
        if (row >= to.rows_left || columns[col] < 0)
            continue;
        Out &result = out[row * to.row_step + columns[col]];
        result = from_float<Out>(unscale(value) + (more ? to_float(result) : 0.0f));
    }
}

// The results of a gather: where they go, and how the parts of a reduction become one.
#pragma once

#include "cuda_direct_place.cuh"

// Where the first of a tile's results of a pixel lies in the output.
__device__ __forceinline__ long long result(const Pixel &p, const Shape &s, const Place &place) {
    const Axis &rows = s.rows, &cols = s.cols;
    const int outputs = BACKWARD ? s.c : s.k, wide = BACKWARD ? cols.x : cols.y;
    const Steps to(s.groups * outputs, (BACKWARD ? rows.x : rows.y) * wide);
    const long long row = place.rows.first + p.row * place.rows.every;
    const long long pixel = row * wide + place.cols.first + p.col * place.cols.every;
    return p.n * to.image + pixel * to.pixel + (long long)(place.group * outputs + place.m0) * to.channel;
}

// Results that lie side by side, in NHWC channels and else columns.
template <class T>
constexpr int BESIDE = NHWC ? T::VA : T::VB;

// Blocks that share a tile's reduction.
__device__ __forceinline__ int blocks_a_tile(const Shape &s) { return PARTS > 1 ? PARTS : s.cuts; }

// Whether there may be cells: doubles would make functions too large, and some tiles have no registers left.
template <class T>
constexpr bool CELLS = BACKWARD && sizeof(Real) == 4 && T::ROWS * T::COLS != 96 && T::M != 32;

// Writes a tile pack by pack, or adds it to what is there.
template <class T>
struct Writer {
    const long long *where;  // each pixel's result is in `out`, or -1
    const Shape &s;
    int thread, outputs;
    long long channel;
    bool wide;

    __device__ __forceinline__ Writer(const long long *where, const Shape &s)
        : where(where), s(s), wide(s.wide_out) {
        thread = late(threadIdx.x);
        outputs = (BACKWARD ? s.c : s.k) - late(blockIdx.x) / blocks_a_tile(s) % s.row_tiles * T::M;
        channel = NHWC ? 1 : BACKWARD ? s.rows.x * s.cols.x : s.rows.y * s.cols.y;
    }

    // The pack that begins with result (i, j) of this thread.
    __device__ __forceinline__ void put_pack(Scalar *out, const Pack<Real, BESIDE<T>> &pack, int i, int j,
                                             bool add) const {
        const int row = T::row(i, thread), col = T::col(j, thread);
        if (row >= outputs)
            return;
        if (NHWC || wide) {
            const long long at = where[col];
            if (at >= 0)
                put(out + at + row * channel, pack, NHWC ? outputs - row : BESIDE<T>, wide, add);
        } else {
#pragma unroll
            for (int l = 0; l < BESIDE<T>; ++l) {
                const long long at = where[col + l];
                if (at >= 0)
                    put(out + at + row * channel, load_pack<1>(&pack.at[l]), 1, false, add);
            }
        }
    }

    // The same of phase 0 of the stride, and the zeros of their cells.
    __device__ __forceinline__ void put_cells(Scalar *out, const Pack<Real, BESIDE<T>> &pack, int i0, int j0,
                                              bool add) const {
        constexpr int SIDE = NHWC ? BESIDE<T> : 1;
        const int row = T::row(i0, thread), col = T::col(j0, thread), valid = outputs - row;
        if (valid <= 0)
            return;
        out += row * channel;
        const int pairs = !NHWC && s.cols.stride == 2 && wide;
        const long long pixel = NHWC ? (long long)s.groups * s.c : 1;
#pragma unroll
        for (int l = 0; l < BESIDE<T>; l += NHWC ? BESIDE<T> : 2) {
#pragma unroll 1
            for (int i = 0; i < s.rows.stride; ++i) {
                const long long at = where[col + l], next = NHWC ? -1 : where[col + l + 1];
                Scalar *line = out + i * s.cols.x * pixel;
                const Real first = i ? 0 : pack.at[l], second = i ? 0 : pack.at[l + 1];
                if (pairs && at >= 0)
                    put(line + at, Pack<Real, 4>{{first, 0, second, 0}}, 4, true, add);
#pragma unroll 1
                for (int j = 0; !pairs && j < s.cols.stride; ++j) {
                    if (NHWC && at >= 0)
                        put(line + at + j * pixel, i + j ? Pack<Real, SIDE>{} : load_pack<SIDE>(&pack.at[l]), valid,
                            wide, add);
                    if (!NHWC && at >= 0)
                        put(line + at + j, Pack<Real, 1>{{j ? 0 : first}}, 1, false, add);
                    if (!NHWC && next >= 0)
                        put(line + next + j, Pack<Real, 1>{{j ? 0 : second}}, 1, false, add);
                }
            }
        }
    }
};

// What becomes of every pack of a thread's sums: `act(pack, i, j)`.
template <class T, class Act>
__device__ __forceinline__ void each_pack(const Real (&sum)[T::ROWS][T::COLS], Act act) {
    constexpr int HIGH = NHWC ? T::VA : 1, WIDE = NHWC ? 1 : T::VB;
#pragma unroll
    for (int j = 0; j < T::COLS; j += WIDE)
#pragma unroll
        for (int i = 0; i < T::ROWS; i += HIGH) {
            Pack<Real, BESIDE<T>> pack;
#pragma unroll
            for (int l = 0; l < BESIDE<T>; ++l)
                pack.at[l] = sum[NHWC ? i + l : i][NHWC ? j : j + l];
            act(pack, i, j);
        }
}

// ---- parts -----------------------------------------------------------------------------------------------

// Sums of a part, in shared memory: a thread's packs lie a block of threads apart.
template <class T>
struct Totals {
    static constexpr int PACKS = T::ROWS * T::COLS / BESIDE<T>, ACROSS = NHWC ? T::ROWS / T::VA : T::ROWS;
    Pack<Real, BESIDE<T>> at[PACKS][T::SIZE];
};

// The blocks of a cluster are the parts of a tile's reduction. Where there are no clusters (the emulator,
// GPUs on which this is not offered) the first block does the work of all.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900 && PARTS > 1
#define CLUSTER __cluster_dims__(PARTS, 1, 1)
constexpr bool CLUSTERS = true;
#else
#define CLUSTER
constexpr bool CLUSTERS = false;
#endif

// That this block sums, of `count`.
struct Parts {
    static constexpr bool ONE = CLUSTERS || PARTS == 1;  // part
    int count, first, end;

    __device__ __forceinline__ Parts(const Shape &s) {
        const int rank = blockIdx.x % blocks_a_tile(s);
        count = blocks_a_tile(s);
        first = ONE ? rank : 0;
        end = ONE ? rank + 1 : rank ? 0 : count;
    }
};

#if PARTS > 1
__device__ __forceinline__ void cluster_sync() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
#endif
}

// Four floats from the shared memory of another block of the cluster, at the address that they have here.
__device__ __forceinline__ Pack<float, 4> load_remote(const Pack<float, 4> *from, int rank) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    Pack<float, 4> pack;
    unsigned at = __cvta_generic_to_shared(from);
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(at) : "r"(at), "r"(rank));
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(pack.at[0]), "=f"(pack.at[1]), "=f"(pack.at[2]), "=f"(pack.at[3])
                 : "r"(at)
                 : "memory");
    return pack;
#else
    return *from;
#endif
}

// Every block adds its share of the packs over all parts, in order, and writes them.
template <class T>
__device__ __forceinline__ void add_parts(Scalar *out, const Totals<T> &totals, const long long *where,
                                          const Shape &s) {
    const Writer<T> writer(where, s);
    const int rank = late(blockIdx.x) % PARTS;
    constexpr int parts = CLUSTERS ? PARTS : 1;
    cluster_sync();
    for (int e = rank; e < Totals<T>::PACKS; e += parts) {
        Pack<Real, 4> sum = load_remote(&totals.at[e][writer.thread], 0);
        for (int part = 1; part < parts; ++part) {
            const Pack<Real, 4> more = load_remote(&totals.at[e][writer.thread], part);
#pragma unroll
            for (int l = 0; l < 4; ++l)
                sum.at[l] += more.at[l];
        }
        const int i = e % Totals<T>::ACROSS * (NHWC ? T::VA : 1),
                  j = e / Totals<T>::ACROSS * (NHWC ? 1 : T::VB);
        if (CELLS<T> && s.cells)
            writer.put_cells(out, sum, i, j, false);
        else
            writer.put_pack(out, sum, i, j, false);
    }
    cluster_sync();  // a block that has ended has no shared memory
}
#endif

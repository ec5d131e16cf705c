// Forward and backward-data convolution as one implicit matrix product (filters x pixels), without workspace.
//   A block computes one M x N tile: M result channels of a group, N pixels. Each step brings DEPTH terms of
//   the reduction into one half of shared memory while the other half is multiplied. Where they lie comes
//   from a table of taps in shared memory: nothing is divided inside the loop. BACKWARD    0: in is x, out is
//   y. 1: in is dy, out is dx. BY_CHANNEL  0: a step is 8 (channel, tap) pairs, tap fastest, as NCHW filters
//   lie (or, packed, channel
//                  fastest); a thread loads them for one pixel
//               1: a step is 8 channels of one tap, loaded as vectors (NHWC, channels a multiple of 4)
//   MASKS       1: at most 31 rows and columns of taps: which of them meet a pixel are bits of one word
//   PARTS       blocks, one cluster, that share a tile's reduction and add up in each other's shared memory;
//               1: blocks that share one each have a place of their own in `out`, if at all
#include "cuda_direct_results.cuh"
#include "cuda_direct_terms.cuh"

// Steps until float sums are put aside, in `out` or in shared memory.
constexpr int CHUNK = sizeof(Scalar) == 4 ? 1024 / DEPTH : 1 << 30;

template <class T>
__device__ __forceinline__ void gather(const Scalar *in, const Scalar *w, Scalar *out, const Shape &s) {
    extern __shared__ int4 memory[];
    Stage<T> *stages = reinterpret_cast<Stage<T> *>(memory);
    Totals<T> *totals = reinterpret_cast<Totals<T> *>(stages + 2);
    long long *where = reinterpret_cast<long long *>(totals + (PARTS > 1));
    Tap *taps = reinterpret_cast<Tap *>(where + T::N);
    const int thread = threadIdx.x;
    Place place(s, blockIdx.x / blocks_a_tile(s), T::M, T::N);
    if (place.pixels <= 0)
        return;
    place.skip(s);
    const Order order(s, place);
    for (int e = thread; order.count && e < order.entries(); e += T::SIZE)
        taps[e] = order.tap(e, s, place);
    for (int i = thread; i < T::N; i += T::SIZE) {
        const Pixel p = place.pixel(s, i);
        where[i] = place.holds(p, i) ? result(p, s, place) : -1;
    }
    __syncthreads();

    const Parts parts(s);
    if (PARTS == 1)
        out += parts.first * s.cut;
    if (parts.first >= parts.end)
        return;
    int part = parts.first;
    do {
        int now = (long long)order.steps * part / parts.count;
        const int begin = now, end = (long long)order.steps * (part + 1) / parts.count;
        Loader<T> loader(in, w, s, place, order, taps, begin, end);
        Fragment<T> terms[2];
        if (begin < end) {
            loader.load(stages[begin & 1]);
            loader.store(stages[begin & 1]);
        }
        __syncthreads();
        terms[0].fetch(stages[begin & 1], 0, thread);
        do {
            alignas(16) Real sum[T::ROWS][T::COLS] = {};
            const bool more = now > begin;
            const int stop = end - now > CHUNK ? now + CHUNK : end;
            add_steps<T>(sum, terms, stages, loader, now, stop);
#if PARTS > 1
            const bool add = more || part > parts.first;
            each_pack<T>(sum, [&](Pack<Real, BESIDE<T>> pack, int i, int j) {
                const int e = j / (NHWC ? 1 : T::VB) * Totals<T>::ACROSS + i / (NHWC ? T::VA : 1);
#pragma unroll
                for (int l = 0; add && l < BESIDE<T>; ++l)
                    pack.at[l] += totals->at[e][thread].at[l];
                totals->at[e][thread] = pack;
            });
#else
            const Writer<T> writer(where, s);
            if constexpr (CELLS<T>)
                if (s.cells)
                    each_pack<T>(sum, [&](const Pack<Real, BESIDE<T>> &pack, int i, int j) {
                        writer.put_cells(out, pack, i, j, more);
                    });
            if (!CELLS<T> || !s.cells)
                each_pack<T>(sum, [&](const Pack<Real, BESIDE<T>> &pack, int i, int j) {
                    writer.put_pack(out, pack, i, j, more);
                });
#endif
        } while (now < end);
    } while (!Parts::ONE && ++part < parts.end);
#if PARTS > 1
    add_parts<T>(out, *totals, where, s);
#endif
}

#define ARGUMENTS const Scalar *__restrict__ in, const Scalar *__restrict__ w, Scalar *out, const Shape s

extern "C" CLUSTER __global__ void __launch_bounds__(Tile128x128::SIZE, Tile128x128::BLOCKS)
    tile128x128(ARGUMENTS) {
    gather<Tile128x128>(in, w, out, s);
}
extern "C" CLUSTER __global__ void __launch_bounds__(Tile64x128::SIZE, Tile64x128::BLOCKS)
    tile64x128(ARGUMENTS) {
    gather<Tile64x128>(in, w, out, s);
}
extern "C" CLUSTER __global__ void __launch_bounds__(Tile64x64::SIZE, PARTS > 1 ? 3 : Tile64x64::BLOCKS)
    tile64x64(ARGUMENTS) {
    gather<Tile64x64>(in, w, out, s);
}
#if PARTS == 1 || defined(__CUDA_EMULATOR__)
extern "C" CLUSTER __global__ void __launch_bounds__(Tile96x128::SIZE, NHWC ? Tile96x128::BLOCKS : Tile96x128::THREE)
    tile96x128(ARGUMENTS) {
    gather<Tile96x128>(in, w, out, s);
}
extern "C" CLUSTER __global__ void __launch_bounds__(Tile64x256::SIZE, Tile64x256::BLOCKS)
    tile64x256(ARGUMENTS) {
    gather<Tile64x256>(in, w, out, s);
}
extern "C" CLUSTER __global__ void __launch_bounds__(Tile32x256::SIZE, Tile32x256::BLOCKS)
    tile32x256(ARGUMENTS) {
    gather<Tile32x256>(in, w, out, s);
}
#endif

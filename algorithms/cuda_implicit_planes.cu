// 1x1 convolutions, and gradients of their images, on 16-bit images (nchw) as they are, as a stream of tiles.
//
//   y[n, i, p] = sum over channels of  w[i, j] x[n, j, p]
//
// Reduction  64 channels a stage: of the filters, and of the pixels, which lie side by side. Beyond the last channel and
//            the last pixel of an image the copy engine puts zeros.
// Mapping    A tile is M channels of the result times N pixels of one image. Tiles of the same pixels follow one
//            another.
// Results    become rows of 64 pixels in shared memory, from where the copy engine writes what there is of them.
//   TURNED  1: filters are stored as [summed][computed], 0: as [computed][summed]
#include "cuda_implicit_stream.cuh"

struct Shape {
    int outputs, depth, row_tiles, pixel_tiles, tiles;
};

#if SUITED
constexpr int BUFFERS = WORKERS / 128 * 2 * BLOCK; // a warpgroup has two, of 64 rows of 64 pixels
constexpr int STAGE = LEFT + TILE_N / 64 * BLOCK, STAGES = (MEMORY - BUFFERS) / (STAGE + 16);
using Stages = Ring<STAGES, STAGE>;
static_assert(COLS % 128 == 0); // buffers take turns within a tile

struct Place {
    int row, pixel, image;

    __device__ __forceinline__ Place(const Shape &s, int tile) {
        row = tile % s.row_tiles * TILE_M;
        tile /= s.row_tiles;
        pixel = tile % s.pixel_tiles * TILE_N;
        image = tile / s.pixel_tiles;
    }
};

// ---- copies: by one warp ---------------------------------------------------------------------------------

__device__ __forceinline__ void copy_stage(unsigned to, const TensorMap &image, const TensorMap &filter,
                                           const Place &place, int c, unsigned barrier) {
#pragma unroll
    for (int i = 0; i < (TURNED ? TILE_M / 64 : 1); ++i)
        copy_box(to + i * BLOCK, filter, TURNED ? place.row + i * 64 : c, TURNED ? c : place.row, barrier);
#pragma unroll
    for (int i = 0; i < TILE_N / 64; ++i)
        copy_box(to + LEFT + i * BLOCK, image, place.pixel + i * 64, c, place.image, barrier);
}

__device__ __forceinline__ void copy_tiles(Stages ring, const TensorMap &image, const TensorMap &filter,
                                           const Shape &s) {
    for (int tile = blockIdx.x; tile < s.tiles; tile += gridDim.x) {
        const Place place(s, tile);
        for (int c = 0; c < s.depth; c += TERMS, ring.next()) {
            wait_until_empty(ring.emptied(), ring.phase);
            if (threadIdx.x % 32)
                continue;
            fill_bytes(ring.full(), STAGE);
            copy_stage(ring.stage(), image, filter, place, c, ring.full());
        }
    }
}

// ---- products --------------------------------------------------------------------------------------------

struct Steps : OneAStage {
    __device__ __forceinline__ unsigned long long left(unsigned stage) const {
        return describe(stage + upper() * BLOCK, BLOCK, 1024);
    }
    __device__ __forceinline__ unsigned long long right(unsigned stage) const {
        return describe(stage + LEFT + side() * (COLS / 64) * BLOCK, BLOCK, 1024);
    }
};

// ---- results ---------------------------------------------------------------------------------------------

// 16 channels of a warp by 16 pixels from sum[0] on, to rows of channels.
__device__ __forceinline__ void keep_rows(unsigned buffer, const float *sum, int pixel) {
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 % 4 * 16 + lane % 16;
    const int chunk = pixel / 8 + lane / 16;
    const unsigned four[4] = {pair(sum[0], sum[1]), pair(sum[2], sum[3]), pair(sum[4], sum[5]), pair(sum[6], sum[7])};
    store_rows(buffer + row * 128 + ((chunk ^ row % 8) << 4), four);
}

// By a warpgroup; its two buffers take turns.
__device__ __forceinline__ void store(const float (&sum)[SUMS], unsigned buffers, const TensorMap &out, const Shape &s,
                                      const Place &place) {
    const int row = place.row + upper() * 64, pixel = place.pixel + side() * COLS;
    if (row >= s.outputs)
        return;
    buffers += threadIdx.x / 128 * 2 * BLOCK;
#pragma unroll
    for (int at = 0; at < COLS; at += 64) {
        const unsigned buffer = buffers + at / 64 % 2 * BLOCK;
        if (threadIdx.x % 128 == 0)
            wait_for_stores<1>(); // the one before the last, from this buffer
        meet_warpgroup();
#pragma unroll
        for (int i = 0; i < 64; i += 16)
            keep_rows(buffer, sum + (at + i) / 2, i);
        show_copies();
        meet_warpgroup();
        if (threadIdx.x % 128 == 0)
            store_box(out, buffer, pixel + at, row, place.image);
    }
}
#endif // SUITED

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    planes_product(const __grid_constant__ TensorMap image, const __grid_constant__ TensorMap filter,
                   const __grid_constant__ TensorMap out, const __grid_constant__ Shape shape) {
#if SUITED
    extern __shared__ uint4 shared[];
    const unsigned stages = (shared_address(shared) + 1023) / 1024 * 1024, buffers = stages + STAGES * STAGE;
    Stages ring = {stages, buffers + BUFFERS};
    make_barriers(ring);
    if (threadIdx.x >= WORKERS) {
        keep_registers<40>();
        if (threadIdx.x < WORKERS + 32)
            copy_tiles(ring, image, filter, shape);
        return;
    }
    take_registers<REGISTERS>();
    const int steps = (shape.depth + TERMS - 1) / TERMS;
    for (int tile = blockIdx.x; tile < shape.tiles; tile += gridDim.x) {
        float sum[SUMS];
        multiply_steps<true, TURNED>(sum, ring, steps, Steps());
        store(sum, buffers, out, shape, Place(shape, tile));
    }
    wait_for_stores<0>();
#endif
}

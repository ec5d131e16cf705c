// Gradients of the filters of 1x1 convolutions as products that read 16-bit images (nchw) as they are.
//
//   dw[i, j] = sum over images and pixels of  dy[n, i, p] x[n, j, p]
//
// Mapping    A block takes a tile of TILE_M filters x TILE_N channels and a part of the steps, each 64 pixels of one
//            image. They lie side by side in both operands; the copy engine puts zeros where an image has ended.
// Results    Sums in fp32 [part][result], or numbers as they are stored.
#include "cuda_implicit_parts.cuh"
#include "cuda_implicit_stream.cuh"

//   blocks, steps     of 64 pixels: of an image, of all
//   col_tiles, tiles  along the channels, and in all
//   length            steps of a part
struct Shape {
    int outputs, channels, blocks, steps, col_tiles, tiles, parts, length;
    long long results;
};

#if SUITED
constexpr int STAGE = LEFT + TILE_N * 128, STAGES = MEMORY / (STAGE + 16);
using Stages = Ring<STAGES, STAGE>;

// Where the first results of a block are, and its steps.
struct Place {
    int row, col, part, begin, end;

    __device__ __forceinline__ explicit Place(const Shape &s) {
        const int tile = blockIdx.x % s.tiles;
        part = blockIdx.x / s.tiles;
        row = tile / s.col_tiles * TILE_M, col = tile % s.col_tiles * TILE_N;
        begin = part * s.length, end = min(begin + s.length, s.steps);
    }
};

// By one warp, two lanes of which copy an operand each.
__device__ __forceinline__ void copy_steps(Stages ring, const TensorMap &x, const TensorMap &y, const Shape &s,
                                           const Place &place) {
    const int lane = threadIdx.x % 32;
    for (int step = place.begin; step < place.end; ++step, ring.next()) {
        const int image = step / s.blocks, pixel = step % s.blocks * TERMS;
        wait_until_empty(ring.emptied(), ring.phase);
        if (lane == 0)
            copy_box(ring.stage(), y, pixel, place.row, image, ring.full());
        else if (lane == 1)
            copy_box(ring.stage() + LEFT, x, pixel, place.col, image, ring.full());
        __syncwarp();
        if (lane == 0)
            fill_bytes(ring.full(), STAGE);
    }
}

struct Steps : OneAStage {
    __device__ __forceinline__ unsigned long long left(unsigned stage) const {
        return describe(stage + upper() * BLOCK, 0, 1024);
    }
    __device__ __forceinline__ unsigned long long right(unsigned stage) const {
        return describe(stage + LEFT + side() * COLS * 128, 0, 1024);
    }
};

template <class Out>
__device__ __forceinline__ void store(Out *out, const float (&sum)[SUMS], const Shape &s, const Place &place) {
    const int row = place.row + upper() * 64 + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
    const int col = place.col + side() * COLS + threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < SUMS; ++i) {
        const int r = row + i / 2 % 2 * 8, c = col + i / 4 * 8 + i % 2;
        if (r < s.outputs && c < s.channels)
            out[(long long)r * s.channels + c] = from_float<Out>(sum[i]);
    }
}
#endif // SUITED

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    planes_gradient(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap y, ELEMENT *out,
                    float *partial, const __grid_constant__ Shape shape) {
#if SUITED
    extern __shared__ uint4 shared[];
    const unsigned stages = (shared_address(shared) + 1023) / 1024 * 1024;
    Stages ring = {stages, stages + STAGES * STAGE};
    const Place place(shape);
    make_barriers(ring);
    if (threadIdx.x >= WORKERS) {
        keep_registers<40>();
        if (threadIdx.x < WORKERS + 32)
            copy_steps(ring, x, y, shape, place);
        return;
    }
    take_registers<REGISTERS>();
    float sum[SUMS];
    multiply_steps<false, false>(sum, ring, place.end - place.begin, Steps());
    if (shape.parts > 1)
        store(partial + place.part * shape.results, sum, shape, place);
    else
        store(out, sum, shape, place);
#endif
}

extern "C" __global__ void __launch_bounds__(ADDERS)
    add_parts(const float *partial, ELEMENT *out, long long count, int parts) {
    add_up(partial, out, count, parts);
}

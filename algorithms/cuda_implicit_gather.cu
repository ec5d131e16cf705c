// Forward, and gradients of x, as an implicit matrix product on tensor cores: filters times pixels.
//
// Operands   Images [copy][image][row][col][group][channel], filters [copy][group][output][tap][channel],
//            channels in chunks of eight, padded with zeros. For bulk copies, both copies lie within the
//            channels: four chunks of one, four of the other.
// Reduction  Chunks of channels of one tap after the other; a step takes eight chunks (four of each half).
// Mapping    A block has M outputs of a group and N pixels of a phase. In bulk one thread has whole tiles
//            copied. Else a thread copies one chunk of every SPREADth row of both matrices and so keeps but
//            one place in the reduction. Where taps leave the image, zeros are copied.
// Memory     None but the operands; with several parts of the reduction [part][result] sums in fp32.
#include "cuda_implicit_results.cuh"
#include "cuda_implicit_walk.cuh"

constexpr int MOST_PHASES = 8;

//   outputs, chunks   of a group: channels computed; chunks of channels summed
//   *_tiles, *_phases blocks along both sides of the product; remainders of rows and columns by the stride
//   parts, length     of the reduction; steps of each
//   stored            taps of a filter; stored_cols: in one row
//   *_copy            chunks from one copy of an operand to the next
//   image, ...        elements of the result from one image, channel, row, pixel to the next; results: all
struct Shape {
    int images, groups, outputs, chunks, row_tiles, pixel_tiles, row_phases, col_phases, parts, length;
    int stored, stored_cols;
    long long image_copy, filter_copy, image, channel, row, pixel, results;
    Walk rows[MOST_PHASES], cols[MOST_PHASES];
};

// Which results a block computes, of which part of the reduction.
struct Place {
    int m0, part, group;
    unsigned first, pixels;

    template <class T> __device__ __forceinline__ static Place of(const Shape &s, Walk &rows, Walk &cols) {
        unsigned block = blockIdx.x;
        const auto next = [&](unsigned count) {
            const unsigned index = block % count;
            block /= count;
            return index;
        };
        Place place;
        place.m0 = next(s.row_tiles) * T::M;
        place.first = next(s.pixel_tiles) * T::N;
        place.part = next(s.parts);
        rows = s.rows[next(s.row_phases)];
        cols = s.cols[next(s.col_phases)];
        place.group = block;
        place.pixels = (unsigned)s.images * rows.count * cols.count;
        return place;
    }
};

struct alignas(16) Pixel {
    int chunk, row, col, image; // where it begins in the image operand; the position of its first tap
};

#if BULK
// Whole tiles, from the first pixel of the block on. Taps are counted from the first that a pixel meets.
template <class T> struct Copier : Bulk {
    const TensorMap &image, &filter;
    const Walk &rows, &cols;
    int depth, stored_cols, group, m0, n, h, w, i, l, c;

    __device__ __forceinline__ void copy(int, int slot, unsigned stage, bool there) {
        if (there && threadIdx.x == 0) {
            const unsigned barrier = barriers + 8 * slot;
            const int tap = (rows.tap + i * rows.tap_step) * stored_cols + cols.tap + l * cols.tap_step;
            expect_bytes(barrier, T::BYTES);
            copy_box(stage, filter, tap * depth + c, m0, barrier);
            copy_pixels(stage + T::M * 128, image, group * depth + c, w, h, n,
                        l * cols.dilation - lowest(cols), i * rows.dilation - lowest(rows), barrier);
        }
        c += 64;
        if (c >= depth) {
            c = 0;
            if (++l == cols.taps)
                l = 0, ++i;
        }
    }
};
#else
// One thread's share of the copies.
template <class T> struct Copier : Chunks {
    const uint4 *image, *filter;
    const Pixel *pixels;
    const Walk &rows, &cols;
    int chunks, pitch, stored_cols, left, i, l, c;
    unsigned to;
    int filter_row;

    __device__ __forceinline__ void announce(int) {}

    __device__ __forceinline__ void carry() {
        while (c >= chunks) {
            c -= chunks;
            if (++l == cols.taps)
                l = 0, ++i;
        }
    }

    __device__ __forceinline__ void copy(int, int, unsigned stage, bool wanted) {
        if (wanted)
            start(stage);
        commit_copies();
    }

    __device__ __forceinline__ void start(unsigned stage) {
        const bool there = i < rows.taps;
        const int row = i * rows.dilation, col = l * cols.dilation;
        const int tap = (rows.tap + i * rows.tap_step) * stored_cols + cols.tap + l * cols.tap_step;
        const uint4 *w = filter + (there ? tap * chunks + c : 0);
#pragma unroll
        for (int m = 0; m < T::M / SPREAD; ++m) {
            const bool valid = there && SPREAD * m < left;
            copy_chunk(stage + to + m * SPREAD * 128, valid ? w + m * (long long)filter_row : filter, valid);
        }
        const int offset = (row * cols.size + col) * pitch + c;
        stage += T::M * 128 + to;
#pragma unroll
        for (int n = 0; n < T::N / SPREAD; ++n) {
            const Pixel pixel = pixels[SPREAD * n];
            const bool valid = there && unsigned(pixel.row + row) < unsigned(rows.size) &&
                               unsigned(pixel.col + col) < unsigned(cols.size);
            copy_chunk(stage + n * SPREAD * 128, image + (valid ? pixel.chunk + offset : 0), valid);
        }
        c += T::DEPTH / CHUNK;
        carry();
    }
};
#endif

// Where every pixel of the tile begins in the image operand, and where its results go.
template <class T>
__device__ __forceinline__ void locate(Pixel *pixels, long long *columns, const Shape &s, const Place &place,
                                       const Walk &rows, const Walk &cols) {
    for (int j = threadIdx.x; j < T::N; j += THREADS) {
        const unsigned index = place.first + j, line = index / cols.count;
        const int col = index % cols.count, row = line % rows.count, n = line / rows.count;
        const int h = row * rows.step + rows.start, w = col * cols.step + cols.start;
        const bool there = index < place.pixels;
        pixels[j] = {((n * rows.size + h) * cols.size + w) * (s.groups * s.chunks) + place.group * s.chunks,
                     there ? h : -NOWHERE, w, n};
        columns[j] = there ? n * s.image + (rows.first + row * rows.every) * s.row +
                                 (cols.first + col * cols.every) * s.pixel
                           : -1;
    }
}

template <class T>
__device__ __forceinline__ void gather(const Matrix &image, const Matrix &filter, ELEMENT *out,
                                       float *partial, const int *scale, int more, const Shape &s) {
    extern __shared__ uint4 shared[];
    char *stages = (char *)shared + (1024 - shared_address(shared) % 1024) % 1024;
    auto *columns = (long long *)(stages + T::STAGES * T::BYTES);
    auto *pixels = (Pixel *)(columns + T::N);
    Walk rows, cols;
    const Place place = Place::of<T>(s, rows, cols);
    if (place.first >= place.pixels)
        return;
    locate<T>(pixels, columns, s, place, rows, cols);

    constexpr int WIDTH = T::DEPTH / CHUNK; // chunks of one copy in a row
    const int steps = (rows.taps * cols.taps * s.chunks + WIDTH - 1) / WIDTH;
    const int begin = place.part * s.length, taps = max(cols.taps, 1);
#if BULK
    const unsigned barriers = shared_address(pixels + T::N);
    make_barriers(barriers, T::STAGES);
    const Pixel first = pixels[0];
    const int tap = begin * WIDTH / s.chunks;
    Copier<T> copier = {{barriers},
                        image,
                        filter,
                        rows,
                        cols,
                        s.chunks * CHUNK * COPIES,
                        s.stored_cols,
                        place.group,
                        place.group * s.outputs + place.m0,
                        first.image,
                        first.row + lowest(rows),
                        first.col + lowest(cols),
                        tap / taps,
                        tap % taps,
                        begin * WIDTH % s.chunks * CHUNK * COPIES};
#else
    const int lane = threadIdx.x % 8, row = threadIdx.x / 8, copy = lane / WIDTH, depth = s.stored * s.chunks;
    const int chunk = begin * WIDTH + lane % WIDTH, tap = chunk / s.chunks;
    const long long first_row = (long long)(place.group * s.outputs + place.m0 + row) * depth;
    Copier<T> copier = {{},
                        image + copy * s.image_copy,
                        filter + copy * s.filter_copy + first_row,
                        pixels + row,
                        rows,
                        cols,
                        s.chunks,
                        s.groups * s.chunks,
                        s.stored_cols,
                        s.outputs - place.m0 - row,
                        tap / taps,
                        tap % taps,
                        chunk % s.chunks,
                        unsigned(row * 128 + ((lane ^ row % 8) << 4)),
                        SPREAD * depth};
#endif
    float sum[T::SUMS];
    reduce<T>(sum, copier, shared_address(stages), max(0, min(s.length, steps - begin)));

    auto *tile = (float *)stages;
    const bool down = s.channel == 1;
    keep<T>(tile, sum, down);
    const int left = s.outputs - place.m0;
    const Target to = {(place.group * s.outputs + place.m0) * s.channel, s.channel, left,
                       s.outputs % (16 / (partial ? 4 : (int)sizeof(ELEMENT))) == 0};
    if (partial)
        write<T>(partial + place.part * s.results, tile, columns, to, down, nullptr, more);
    else
        write<T>(out, tile, columns, to, down, scale, 0);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    multiply(const __grid_constant__ Matrix image, const __grid_constant__ Matrix filter, ELEMENT *out,
             float *partial, const int *scale, int more, const __grid_constant__ Shape shape) {
    gather<Tile<TILE_M, TILE_N, true>>(image, filter, out, partial, scale, more, shape);
}

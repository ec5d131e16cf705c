// What surrounds cuFFT's transforms of whole images: padding, cropping, and the way from spectra one behind
// the other, [lane][frequency], to matrices one behind the other, [frequency][lane], and back.
//
// Every kernel moves blocks of SIDE lanes x SIDE points through shared memory, so that both ends are read and
// written along their contiguous axis. Grid: (points, lanes) / SIDE. `first` is the lane where a slab begins.
#include "cuda_fft_complex.cuh"
#include "cuda_fft_map.cuh"

constexpr int SIDE = 32, DEPTH = 8; // threads: SIDE x DEPTH

// Which (lane, point) of a block this thread is at in turn `step`: neighbours are neighbours in memory.
struct Spot {
    int lane, point;
};

__device__ __forceinline__ Spot spot(bool along_lanes, int step) {
    const int fast = threadIdx.x, slow = threadIdx.y + step * DEPTH;
    return along_lanes ? Spot{fast, slow} : Spot{slow, fast};
}

__device__ Place block_place(const Map &map, int first, int lanes) {
    return place(min(first + int(blockIdx.y) * SIDE + int(threadIdx.x), lanes - 1), map);
}

// Whether a point of a lane is a pixel, and where.
__device__ __forceinline__ bool find(const Map &map, const Place &at, int point, int width,
                                     long long &where) {
    int row, col;
    const bool found = is_pixel<true>(map.rows, at.rows, point / width, row, 1.0f / map.rows.spread) &
                       is_pixel<true>(map.cols, at.cols, point % width, col, 1.0f / map.cols.spread);
    where = at.base + row * (long long)map.rows.stride + col * (long long)map.cols.stride;
    return found;
}

// grid[lane][row][column] = image, zeros around it.
extern "C" __global__ void pad(const Element *image, Real *grid, int first, int lanes, int height, int width,
                               Map map) {
    __shared__ Place places[SIDE];
    __shared__ Real block[SIDE][SIDE + 1];
    if (threadIdx.y == 0)
        places[threadIdx.x] = block_place(map, first, lanes);
    __syncthreads();
    const int points = height * width, lane0 = blockIdx.y * SIDE, point0 = blockIdx.x * SIDE;
    for (int step = 0; step < SIDE / DEPTH; ++step) {
        const Spot at = spot(map.cols.stride != 1, step);
        long long where;
        const bool found = find(map, places[at.lane], point0 + at.point, width, where);
        block[at.lane][at.point] = found ? widen(image[where]) : Real(0);
    }
    __syncthreads();
    for (int step = 0; step < SIDE / DEPTH; ++step) {
        const Spot at = spot(false, step);
        if (first + lane0 + at.lane < lanes && point0 + at.point < points)
            grid[(lane0 + at.lane) * (long long)points + point0 + at.point] = block[at.lane][at.point];
    }
}

// image = the part of grid[lane][row][column] that is the result.
extern "C" __global__ void crop(Element *image, const Real *grid, int first, int lanes, int height, int width,
                                Map map) {
    __shared__ Place places[SIDE];
    __shared__ Real block[SIDE][SIDE + 1];
    if (threadIdx.y == 0)
        places[threadIdx.x] = block_place(map, first, lanes);
    const int points = height * width, lane0 = blockIdx.y * SIDE, point0 = blockIdx.x * SIDE;
    for (int step = 0; step < SIDE / DEPTH; ++step) {
        const Spot at = spot(false, step);
        if (first + lane0 + at.lane < lanes && point0 + at.point < points)
            block[at.lane][at.point] = grid[(lane0 + at.lane) * (long long)points + point0 + at.point];
    }
    __syncthreads();
    for (int step = 0; step < SIDE / DEPTH; ++step) {
        const Spot at = spot(map.cols.stride != 1, step);
        const bool given = first + lane0 + at.lane < lanes && point0 + at.point < points;
        long long where;
        if (given && find(map, places[at.lane], point0 + at.point, width, where))
            image[where] = narrow<Element>(block[at.lane][at.point]);
    }
}

// matrices = spectra[lane][frequency] of the slab, or the other way round.
template <bool BACK>
__device__ __forceinline__ void transpose(Complex *spectra, Complex *matrices, int first, int lanes,
                                          int frequencies, const Matrix &matrix) {
    __shared__ Complex block[SIDE][SIDE + 1];
    const auto each = [&](bool along_lanes, auto move) {
        for (int step = 0; step < SIDE / DEPTH; ++step) {
            const Spot at = spot(along_lanes, step);
            const int lane = blockIdx.y * SIDE + at.lane, frequency = blockIdx.x * SIDE + at.point;
            if (first + lane < lanes && frequency < frequencies)
                move(lane, frequency, block[at.lane][at.point]);
        }
    };
    const auto load = [&](int lane, int frequency, Complex &value) {
        value = BACK ? get<true>(matrices + offset(matrix, first + lane), matrix, frequency)
                     : spectra[lane * (long long)frequencies + frequency];
    };
    const auto store = [&](int lane, int frequency, Complex &value) {
        if (BACK)
            spectra[lane * (long long)frequencies + frequency] = value;
        else
            put<true>(Single(matrices + offset(matrix, first + lane)), matrix, frequency, value);
    };
    each(BACK, load);
    __syncthreads();
    each(!BACK, store);
}

extern "C" __global__ void to_matrices(Complex *spectra, Complex *matrices, int first, int lanes,
                                       int frequencies, Matrix matrix) {
    transpose<false>(spectra, matrices, first, lanes, frequencies, matrix);
}

extern "C" __global__ void to_spectra(Complex *spectra, Complex *matrices, int first, int lanes,
                                      int frequencies, Matrix matrix) {
    transpose<true>(spectra, matrices, first, lanes, frequencies, matrix);
}

// Tiles of images to half spectra and back: 2-D Fourier transforms of TILE x TILE real points, overlap-save.
//
// A lane is one tile of one channel: lane = (image, tile row, tile column, group, part, channel). Spectra
// are stored as [frequency][lane], so that every frequency is a matrix of tiles x channels for the products.
// TILE^2 / 2 + 2 frequencies describe a real tile: rows 1 .. TILE/2 - 1 of the half spectrum in full, and of
// rows 0 and TILE/2, which are spectra of real data themselves, the first halves.
//
// One block transforms LANES lanes with TILE threads each. Along a column a thread takes TILE real points as
// TILE/2 complex ones; the real rows 0 and TILE/2 then travel as one complex row. Along a row two threads
// share the work, one for even, one for odd frequencies. In between, rows meet columns in shared memory. No
// scaling: forward gives twice the transform, which makes (2 TILE)^2 of a product that goes back.
//
// With HALVES spectra are written as one or two fp16 numbers, scaled by what the peak of the tensor allows,
// and what comes out of their products is scaled back.
#include "cuda_fft_map.cuh"
#include "cuda_fft_points.cuh"

constexpr int HALF = TILE / 2;
constexpr int THREADS = LANES * TILE;

#if HALVES
// One or two halves of a number; filters have twins. From 64 points on registers suffice if that is asked.
struct Split {
    static constexpr bool twins = TILE < 64;
    __half2 *high, *low, *again;
    __device__ Split(__half2 *to, const Matrix &matrix)
        : high(to + matrix.high), low(to + matrix.low), again(to + matrix.again) {}

    __device__ __forceinline__ void store(long long offset, Complex value) const {
        const __half2 rounded = __floats2half2_rn(value.x, value.y);
        const float2 kept = __half22float2(rounded);
        high[offset] = rounded;
        if (HALVES == 1)
            return;
        again[offset] = rounded;
        low[offset] = __floats2half2_rn(value.x - kept.x, value.y - kept.y);
    }
};

using Stored = __half2;
using Target = Split;
#else
using Stored = Complex;
using Target = Single;
#endif

// Strides of the exchange: half warps that run along columns, lanes or rows meet no bank twice.
constexpr int COLUMN = LANES + 1;
constexpr int ROW = TILE * COLUMN + (LANES < 16 ? LANES : 0);

// Where the frequency of row k < TILE/2 and column l is stored, and that of row TILE/2 and l <= TILE/2.
__device__ constexpr int frequency(int k, int l) { return k * TILE + l; }
__device__ constexpr int middle_frequency(int l) {
    return l == 0 ? HALF * TILE : l == HALF ? HALF * TILE + 1 : HALF + l;
}

// The lane and column of this thread where columns are transformed: neighbours in memory side by side.
struct Thread {
    int lane, j;
};

__device__ __forceinline__ Thread along_columns(const Map &map) {
    const int thread = threadIdx.x;
    return map.cols.stride == 1 ? Thread{thread / TILE, thread % TILE}
                                : Thread{thread % LANES, thread / LANES};
}

// Calls visit(i, pixel) for every point i of column j that is a pixel. Images, unlike filters, have one for
// every point in a range.
template <bool TAPS, class Pixel, class Visit>
__device__ __forceinline__ void each_pixel(Pixel *image, const Map &map, const Place &at, int j,
                                           Visit visit) {
    int row, col;
    if (!is_pixel<TAPS>(map.cols, at.cols, j, col))
        return;
    const Span rows = at.rows;
    Pixel *first = image + at.base + col * (long long)map.cols.stride;
    Pixel *point = first + rows.position * (long long)map.rows.stride;
    const int step = map.rows.parts * map.rows.stride;
#pragma unroll
    for (int i = 0; i < TILE; ++i, point += step) {
        if (TAPS && is_pixel<true>(map.rows, rows, i, row))
            visit(i, first[row * (long long)map.rows.stride]);
        if (!TAPS && is_inside(rows, i))
            visit(i, *point);
    }
}

// ---- tiles to spectra -------------------------------------------------------------------------------------

// Twice the spectrum of TILE real points from that of TILE/2 complex ones; element 0 takes the real
// frequencies 0 and TILE/2 as one complex number.
__device__ __forceinline__ void to_real(Complex (&z)[HALF]) {
    z[0] = {2 * (z[0].x + z[0].y), 2 * (z[0].x - z[0].y)};
    z[HALF / 2] = Real(2) * conj(z[HALF / 2]);
#pragma unroll
    for (int k = 1; k < HALF / 2; ++k) {
        const Complex even = z[k] + conj(z[HALF - k]);
        const Complex odd = minus_i(z[k] - conj(z[HALF - k]));
        Complex mirrored;
        butterfly<false>(k, even, odd, z[k], mirrored);
        z[HALF - k] = conj(mirrored);
    }
}

// Frequencies l = 2 m + ODD of the rows 0 and TILE/2, which came as p + i q with real p and q.
template <bool TAPS, int ODD>
__device__ __forceinline__ void write_first_rows(const Complex (&z)[HALF], const Target &to,
                                                 const Matrix &matrix) {
#pragma unroll
    for (int m = 0; 2 * m + ODD <= HALF; ++m) {
        const int l = 2 * m + ODD;
        const Complex mirrored = conj(z[(HALF - m - ODD) % HALF]);
        put<TAPS>(to, matrix, plane(matrix, frequency(0, l)), Real(0.5) * (z[m] + mirrored));
        put<TAPS>(to, matrix, plane(matrix, middle_frequency(l)), minus_i(Real(0.5) * (z[m] - mirrored)));
    }
}

template <bool TAPS>
__device__ __forceinline__ void forward(const Element *image, Stored *spectra, int lanes, const Map &map,
                                        const Matrix &matrix, const unsigned *peak) {
    extern __shared__ Complex exchange[];
    __shared__ Place places[LANES];
    const int thread = threadIdx.x, first = blockIdx.x * LANES;
    if (thread < LANES && first + thread < lanes)
        places[thread] = place(first + thread, map);
    __syncthreads();
    {
        const Thread at = along_columns(map);
        if (first + at.lane < lanes) {
            Complex z[HALF] = {};
            each_pixel<TAPS>(image, map, places[at.lane], at.j, [&z](int i, const Element &pixel) {
                (i % 2 ? z[i / 2].y : z[i / 2].x) = widen(pixel);
            });
            fourier<false>(z);
            to_real(z);
#pragma unroll
            for (int k = 0; k < HALF; ++k)
                exchange[k * ROW + at.j * COLUMN + at.lane] = z[k];
        }
    }
    __syncthreads();
    const int lane = thread % LANES, k = thread / LANES % HALF, odd = thread / LANES / HALF;
    if (first + lane >= lanes)
        return;
    Complex z[HALF];
    const Complex *row = exchange + k * ROW + lane;
    if (odd) {
#pragma unroll
        for (int n = 0; n < HALF; ++n)
            z[n] = turn<false>(n) * (row[n * COLUMN] - row[(n + HALF) * COLUMN]);
    } else {
#pragma unroll
        for (int n = 0; n < HALF; ++n)
            z[n] = row[n * COLUMN] + row[(n + HALF) * COLUMN];
    }
    fourier<false>(z);
    if (HALVES) {
        const Real scale = power(*peak, matrix.bits);
#pragma unroll
        for (int m = 0; m < HALF; ++m)
            z[m] = scale * z[m];
    }
    spectra += offset(matrix, first + lane);
    if (k == 0 && odd) {
        write_first_rows<TAPS, 1>(z, Target(spectra, matrix), matrix);
    } else if (k == 0) {
        write_first_rows<TAPS, 0>(z, Target(spectra, matrix), matrix);
    } else {
        const Target to(spectra + plane(matrix, frequency(k, odd)), matrix);
#pragma unroll
        for (int m = 0; m < HALF; ++m)
            put<TAPS>(to, matrix, plane(matrix, 2 * m), z[m]);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    tiles_to_spectra(const Element *image, Stored *spectra, int lanes, Map map, Matrix matrix,
                     const unsigned *peak) {
    forward<false>(image, spectra, lanes, map, matrix, peak);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    taps_to_spectra(const Element *filters, Stored *spectra, int lanes, Map map, Matrix matrix,
                    const unsigned *peak) {
    forward<true>(filters, spectra, lanes, map, matrix, peak);
}

// ---- spectra to tiles -------------------------------------------------------------------------------------

template <bool TAPS, int ODD>
__device__ __forceinline__ void read_first_rows(Complex (&z)[HALF], const Complex *from,
                                                const Matrix &matrix) {
#pragma unroll
    for (int m = 0; 2 * m + ODD <= HALF; ++m) {
        const int l = 2 * m + ODD;
        const Complex p = get<TAPS>(from + plane(matrix, frequency(0, l)), matrix);
        const Complex q = get<TAPS>(from + plane(matrix, middle_frequency(l)), matrix);
        z[(HALF - m - ODD) % HALF] = conj(p) + times_i(conj(q));
        z[m] = p + times_i(q);
    }
}

// TILE/2 complex points whose transform is TILE real ones, from half their spectrum; the inverse of to_real,
// times four.
__device__ __forceinline__ void from_real(Complex (&z)[HALF]) {
    z[0] = {z[0].x + z[0].y, z[0].x - z[0].y};
    z[HALF / 2] = Real(2) * conj(z[HALF / 2]);
#pragma unroll
    for (int k = 1; k < HALF / 2; ++k) {
        const Complex sum = z[k] + conj(z[HALF - k]);
        const Complex difference = times_i(z[k] - conj(z[HALF - k]));
        Complex mirrored;
        butterfly<true>(k, sum, difference, z[k], mirrored);
        z[HALF - k] = conj(mirrored);
    }
}

template <bool TAPS>
__device__ __forceinline__ void inverse(Element *image, const Complex *spectra, int lanes, const Map &map,
                                        const Matrix &matrix, const unsigned *peaks) {
    extern __shared__ Complex exchange[];
    __shared__ Place places[LANES];
    const int thread = threadIdx.x, first = blockIdx.x * LANES;
    if (thread < LANES && first + thread < lanes)
        places[thread] = place(first + thread, map);
    const int lane = thread % LANES, k = thread / LANES % HALF, odd = thread / LANES / HALF;
    if (first + lane < lanes) {
        Complex z[HALF];
        const Complex *from = spectra + offset(matrix, first + lane);
        if (k == 0 && odd) {
            read_first_rows<TAPS, 1>(z, from, matrix);
        } else if (k == 0) {
            read_first_rows<TAPS, 0>(z, from, matrix);
        } else {
            from += plane(matrix, frequency(k, odd));
#pragma unroll
            for (int m = 0; m < HALF; ++m)
                z[m] = get<TAPS>(from + plane(matrix, 2 * m), matrix);
        }
        fourier<true>(z);
#pragma unroll
        for (int n = 0; n < HALF; ++n)
            exchange[k * ROW + (odd * HALF + n) * COLUMN + lane] = z[n];
    }
    __syncthreads();
    const Thread at = along_columns(map);
    if (first + at.lane >= lanes)
        return;
    Complex z[HALF];
    const Complex w = turn<true>(at.j);
#pragma unroll
    for (int k = 0; k < HALF; ++k) {
        const Complex *row = exchange + k * ROW + at.lane;
        z[k] = row[at.j % HALF * COLUMN] + w * row[(HALF + at.j % HALF) * COLUMN];
    }
    from_real(z);
    fourier<true>(z);
    if (HALVES) {
        const Real scale = 1 / power(peaks[0], matrix.bits), other = 1 / power(peaks[1], matrix.other_bits);
#pragma unroll
        for (int n = 0; n < HALF; ++n)
            z[n] = other * (scale * z[n]);
    }
    each_pixel<TAPS>(image, map, places[at.lane], at.j, [&z](int i, Element &pixel) {
        pixel = narrow<Element>(i % 2 ? z[i / 2].y : z[i / 2].x);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS)
    spectra_to_tiles(Element *image, const Complex *spectra, int lanes, Map map, Matrix matrix,
                     const unsigned *peaks) {
    inverse<false>(image, spectra, lanes, map, matrix, peaks);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    spectra_to_taps(Element *filters, const Complex *spectra, int lanes, Map map, Matrix matrix,
                    const unsigned *peaks) {
    inverse<true>(filters, spectra, lanes, map, matrix, peaks);
}

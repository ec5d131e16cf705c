// Tiles of images to half spectra and back: 2-D Fourier transforms of TILE x TILE real points,
// overlap-save.
//
// A lane is one tile of one channel: lane = (image, tile row, tile column, group, part, channel). Spectra
// are stored as [frequency][lane], so that every frequency is a matrix of tiles x channels for the
// products, or, if APART, as [lane][frequency]. TILE^2 / 2 + 2 frequencies describe a real tile: rows 1 ..
// TILE/2 - 1 of the half spectrum in full, and of rows 0 and TILE/2, which are spectra of real data
// themselves, the first halves.
//
// One block transforms FORWARD_LANES or INVERSE_LANES lanes with TILE threads each. Along a column a thread
// takes TILE real points as TILE/2 complex ones; the real rows 0 and TILE/2 then travel as one complex row.
// Along a row two threads share the work, one for even, one for odd frequencies. In between, rows meet
// columns in shared memory. No scaling: forward gives twice the transform, which makes (2 TILE)^2 of a
// product that goes back.
//
// With HALVES spectra are written in fp16, scaled by what the peak of the tensor allows, and what comes out
// of their products is scaled back.
#include "cuda_fft_map.cuh"
#include "cuda_fft_points.cuh"

constexpr int HALF = TILE / 2;
constexpr bool LARGE = APART && TILE == 128; // enough blocks have room if registers are few

#if HALVES
// Filters have twins. From 64 points on registers suffice if that is asked.
struct Rounded {
    static constexpr bool twins = TILE < 64;
    __half2 *at;
    __device__ Rounded(__half2 *to) : at(to) {}
    __device__ __forceinline__ void store(const Matrix &matrix, int frequency, long long twin,
                                          Complex value) const {
        plane(at, matrix, frequency)[twin] = __floats2half2_rn(value.x, value.y);
    }
};

using Stored = __half2;
using Target = Rounded;
#else
using Stored = Complex;
using Target = Single;
#endif

// Strides of the exchange: half warps that run along columns, rows or lanes, and then the next of the
// others, meet no bank twice.
constexpr int ROW = TILE + 1;
__device__ constexpr int stride(int lanes) {
    return (HALF * ROW + 15) / 16 * 16 + (lanes < 16 ? 16 / lanes : 1);
}

// Where the frequency of row k < TILE/2 and column l is stored: threads side by side have frequencies side
// by side. The second half of row 0 is not needed; row TILE/2 takes its place, but for columns 0 and
// TILE/2.
__device__ constexpr int frequency(int k, int l) { return l / 2 * TILE + l % 2 * HALF + k; }
constexpr int FIRST = HALF * TILE, MIDDLE = FIRST + 1; // those two

// The lane and column of this thread where columns are transformed: neighbours in memory side by side; but
// of filters the few columns that have taps, so that warps without any have nothing to do.
struct Thread {
    int lane, j;
};

template <bool TAPS, int LANES> __device__ __forceinline__ Thread along_columns(const Map &map) {
    const int thread = threadIdx.x;
    return map.cols.stride == 1 && !TAPS ? Thread{thread / TILE, thread % TILE}
                                         : Thread{thread % LANES, thread / LANES};
}

// The lane, row, and whether odd, of this thread where rows are: neighbours side by side where spectra are
// stored.
struct Share {
    int lane, k, odd;
};

template <int LANES> __device__ __forceinline__ Share along_rows() {
    const int lane = APART ? threadIdx.x / TILE : threadIdx.x % LANES;
    const int rest = APART ? threadIdx.x % TILE : threadIdx.x / LANES;
    return {lane, rest % HALF, rest / HALF};
}

// Calls visit(i, pixel) for every point i of a column that is a pixel. Images, unlike filters, have one for
// every point in a range.
template <bool TAPS, class Pixel, class Visit>
__device__ __forceinline__ void each_pixel(Pixel *image, const Map &map, const Place &at, int col,
                                           Visit visit) {
    const Span rows = at.rows;
    const float inverse = 1.0f / map.rows.spread;
    int row;
    Pixel *first = image + at.base + col * (long long)map.cols.stride;
    Pixel *point = first + rows.position * (long long)map.rows.stride;
    const int step = map.rows.parts * map.rows.stride;
#pragma unroll
    for (int i = 0; i < TILE; ++i, point += step) {
        if (TAPS && i < map.rows.window && is_pixel<true>(map.rows, rows, i, row, inverse))
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

// Columns l = 2 m + ODD of the rows 0 and TILE/2, which came as p + i q with real p and q: as they are
// stored.
template <bool TAPS, int ODD>
__device__ __forceinline__ void take_apart(Complex (&z)[HALF], const Target &to, const Matrix &matrix) {
    Complex rows[HALF];
#pragma unroll
    for (int m = 0; 2 * m + ODD <= HALF; ++m) {
        const int l = 2 * m + ODD;
        const Complex mirrored = conj(z[(HALF - m - ODD) % HALF]);
        const Complex q = minus_i(Real(0.5) * (z[m] - mirrored));
        rows[m] = Real(0.5) * (z[m] + mirrored);
        if (l % HALF == 0)
            put<TAPS>(to, matrix, l ? MIDDLE : FIRST, q);
        else
            rows[HALF / 2 + m] = q;
    }
#pragma unroll
    for (int m = 0; m < HALF; ++m)
        z[m] = rows[m];
}

template <bool TAPS>
__device__ __forceinline__ void forward(const Element *image, Stored *spectra, int lanes, const Map &map,
                                        const Matrix &matrix, const unsigned *peak) {
    constexpr int LANES = FORWARD_LANES, LANE = stride(LANES);
    extern __shared__ Complex exchange[];
    __shared__ Place places[LANES];
    const int thread = threadIdx.x, first = blockIdx.x * LANES;
    const bool half = TAPS && map.cols.window <= HALF; // of the columns are zero
    if (thread < LANES && first + thread < lanes)
        places[thread] = place(first + thread, map);
    __syncthreads();
    {
        const Thread at = along_columns<TAPS, LANES>(map);
        if (first + at.lane < lanes && !(half && at.j >= HALF)) {
            int col;
            Complex z[HALF] = {};
            if (is_pixel<TAPS>(map.cols, places[at.lane].cols, at.j, col, 1.0f / map.cols.spread)) {
                each_pixel<TAPS>(image, map, places[at.lane], col, [&z](int i, const Element &pixel) {
                    (i % 2 ? z[i / 2].y : z[i / 2].x) = widen(pixel);
                });
                fourier<false>(z);
                to_real(z);
            }
#pragma unroll
            for (int k = 0; k < HALF; ++k)
                exchange[at.lane * LANE + k * ROW + at.j] = z[k];
        }
    }
    __syncthreads();
    const auto [lane, k, odd] = along_rows<LANES>();
    if (first + lane >= lanes)
        return;
    Complex z[HALF];
    const Complex *row = exchange + lane * LANE + k * ROW;
    if (half) {
#pragma unroll
        for (int n = 0; n < HALF; ++n)
            z[n] = odd ? turn<false>(n) * row[n] : row[n];
    } else if (odd) {
#pragma unroll
        for (int n = 0; n < HALF; ++n)
            z[n] = turn<false>(n) * (row[n] - row[n + HALF]);
    } else {
#pragma unroll
        for (int n = 0; n < HALF; ++n)
            z[n] = row[n] + row[n + HALF];
    }
    fourier<false>(z);
    if (HALVES) {
        const Real scale = power(*peak, matrix.bits);
#pragma unroll
        for (int m = 0; m < HALF; ++m)
            z[m] = scale * z[m];
    }
    spectra += offset(matrix, first + lane);
    if (k == 0 && odd)
        take_apart<TAPS, 1>(z, Target(spectra), matrix);
    else if (k == 0)
        take_apart<TAPS, 0>(z, Target(spectra), matrix);
    const Target to(plane(spectra, matrix, frequency(k, odd)));
#pragma unroll
    for (int m = 0; m < HALF; ++m)
        put<TAPS>(to, matrix, frequency(0, 2 * m), z[m]);
}

extern "C" __global__ void __launch_bounds__(FORWARD_LANES *TILE)
    tiles_to_spectra(const Element *image, Stored *spectra, int lanes, Map map, Matrix matrix,
                     const unsigned *peak) {
    forward<false>(image, spectra, lanes, map, matrix, peak);
}

extern "C" __global__ void __launch_bounds__(FORWARD_LANES *TILE, LARGE ? 2 : 1)
    taps_to_spectra(const Element *filters, Stored *spectra, int lanes, Map map, Matrix matrix,
                    const unsigned *peak) {
    forward<true>(filters, spectra, lanes, map, matrix, peak);
}

// ---- spectra to tiles -------------------------------------------------------------------------------------

// The inverse of take_apart.
template <bool TAPS, int ODD>
__device__ __forceinline__ void put_together(Complex (&z)[HALF], const Complex *from, const Matrix &matrix) {
    Complex row[HALF];
#pragma unroll
    for (int m = 0; 2 * m + ODD <= HALF; ++m) {
        const int l = 2 * m + ODD;
        const Complex p = z[m];
        const Complex q =
            l % HALF == 0 ? get<TAPS>(from, matrix, l ? MIDDLE : FIRST) : z[(HALF / 2 + m) % HALF];
        row[(HALF - m - ODD) % HALF] = conj(p) + times_i(conj(q));
        row[m] = p + times_i(q);
    }
#pragma unroll
    for (int m = 0; m < HALF; ++m)
        z[m] = row[m];
}

// TILE/2 complex points whose transform is TILE real ones, from half their spectrum; the inverse of
// to_real, times four.
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
    constexpr int LANES = INVERSE_LANES, LANE = stride(LANES);
    extern __shared__ Complex exchange[];
    __shared__ Place places[LANES];
    const int thread = threadIdx.x, first = blockIdx.x * LANES;
    if (thread < LANES && first + thread < lanes)
        places[thread] = place(first + thread, map);
    const auto [lane, k, odd] = along_rows<LANES>();
    if (first + lane < lanes) {
        Complex z[HALF];
        const Complex *from = spectra + offset(matrix, first + lane);
        const Complex *row = plane(from, matrix, frequency(k, odd));
#pragma unroll
        for (int m = 0; m < HALF; ++m)
            z[m] = get<TAPS>(row, matrix, frequency(0, 2 * m));
        if (k == 0 && odd)
            put_together<TAPS, 1>(z, from, matrix);
        else if (k == 0)
            put_together<TAPS, 0>(z, from, matrix);
        fourier<true>(z);
#pragma unroll
        for (int n = 0; n < HALF; ++n)
            exchange[lane * LANE + k * ROW + odd * HALF + n] = z[n];
    }
    __syncthreads();
    const Thread at = along_columns<TAPS, LANES>(map);
    int col;
    if (first + at.lane >= lanes ||
        !is_pixel<TAPS>(map.cols, places[at.lane].cols, at.j, col, 1.0f / map.cols.spread))
        return;
    Complex z[HALF];
    const Complex w = turn<true>(at.j);
#pragma unroll
    for (int k = 0; k < HALF; ++k) {
        const Complex *row = exchange + at.lane * LANE + k * ROW + at.j % HALF;
        z[k] = row[0] + w * row[HALF];
    }
    from_real(z);
    fourier<true>(z);
    if (HALVES) {
        const Real scale = 1 / power(peaks[0], matrix.bits), other = 1 / power(peaks[1], matrix.other_bits);
#pragma unroll
        for (int n = 0; n < HALF; ++n)
            z[n] = other * (scale * z[n]);
    }
    each_pixel<TAPS>(image, map, places[at.lane], col, [&z](int i, Element &pixel) {
        pixel = narrow<Element>(i % 2 ? z[i / 2].y : z[i / 2].x);
    });
}

extern "C" __global__ void __launch_bounds__(INVERSE_LANES *TILE, LARGE ? 3 : 1)
    spectra_to_tiles(Element *image, const Complex *spectra, int lanes, Map map, Matrix matrix,
                     const unsigned *peaks) {
    inverse<false>(image, spectra, lanes, map, matrix, peaks);
}

extern "C" __global__ void __launch_bounds__(INVERSE_LANES *TILE)
    spectra_to_taps(Element *filters, const Complex *spectra, int lanes, Map map, Matrix matrix,
                    const unsigned *peaks) {
    inverse<true>(filters, spectra, lanes, map, matrix, peaks);
}

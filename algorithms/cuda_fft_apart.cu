// Products of spectra where x or y has few channels: one thread a frequency, which neighbours have
// neighbours of.
//
// Spectra are stored as [lane][frequency], lane = row * columns + column of matrices x (tiles x C), y
// (tiles x K) and w (K x C); what the mathematics conjugates is stored so. Each block computes ROWS x
// COLUMNS lanes of the result c = scale a b for some frequencies.
#include "cuda_fft_complex.cuh"

constexpr int ROWS = 4, COLUMNS = 4;
constexpr int THREADS = 128; // frequencies of a block that multiplies
constexpr int WIDTH = 32, SLICES = 4,
              TERMS = 128; // of one that collects; terms that are added up by themselves
constexpr int RESIDENT = sizeof(Real) == 4 ? 3 : 1; // blocks on a multiprocessor

// Lanes from one row of c to the next, from one term of its sum, and from one column.
struct Strides {
    int row, term, column;
};

// `pitch`: numbers from lane to lane
struct Sizes {
    int rows, columns, terms, frequencies, pitch;
    Strides a, b, c;
};

// Which frequency and which lanes of the result are this thread's.
struct Spot {
    int frequency, row, column;
};

// Blocks of the same lanes follow one another, so that few pages of memory are open at a time; those that
// COLLECT, of the same frequencies, so that they find the smaller factor in the L2 cache.
template <int WIDTH, bool COLLECT> __device__ __forceinline__ Spot spot(const Sizes &n) {
    const int across = (n.columns + COLUMNS - 1) / COLUMNS, tiles = across * ((n.rows + ROWS - 1) / ROWS);
    const int parts = (n.frequencies + WIDTH - 1) / WIDTH;
    const int tile = COLLECT ? blockIdx.x % tiles : blockIdx.x / parts;
    const int part = COLLECT ? blockIdx.x / tiles : blockIdx.x % parts;
    return {part * WIDTH + int(threadIdx.x % WIDTH), tile / across * ROWS, tile % across * COLUMNS};
}

struct Sums {
    Complex at[ROWS][COLUMNS];

    __device__ __forceinline__ void add(const Sums &other) {
#pragma unroll
        for (int i = 0; i < ROWS; ++i)
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j)
                at[i][j] = at[i][j] + other.at[i][j];
    }
};

// The factors of a thread; rows and columns that are not there are read as the last that is.
struct Factors {
    const Complex *rows[ROWS], *columns[COLUMNS];
    long long row_term, column_term;

    __device__ __forceinline__ Factors(const Complex *a, const Complex *b, const Sizes &n, const Spot &at)
        : row_term(n.a.term * (long long)n.pitch), column_term(n.b.term * (long long)n.pitch) {
#pragma unroll
        for (int i = 0; i < ROWS; ++i)
            rows[i] = a + min(at.row + i, n.rows - 1) * (long long)n.a.row * n.pitch + at.frequency;
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j)
            columns[j] =
                b + min(at.column + j, n.columns - 1) * (long long)n.b.column * n.pitch + at.frequency;
    }

    __device__ __forceinline__ void multiply(Sums &sums, int term) const {
        Complex left[ROWS], right[COLUMNS];
#pragma unroll
        for (int i = 0; i < ROWS; ++i)
            left[i] = rows[i][term * row_term];
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j)
            right[j] = columns[j][term * column_term];
#pragma unroll
        for (int i = 0; i < ROWS; ++i)
#pragma unroll
            for (int j = 0; j < COLUMNS; ++j)
                sums.at[i][j] = sums.at[i][j] + left[i] * right[j];
    }
};

__device__ __forceinline__ void write(Complex *c, const Sizes &n, const Spot &at, const Sums &sums,
                                      Real scale, int keep) {
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
        for (int j = 0; j < COLUMNS; ++j) {
            const int row = at.row + i, column = at.column + j;
            if (row >= n.rows || column >= n.columns)
                continue;
            Complex *to = c + (row * (long long)n.c.row + column * n.c.column) * n.pitch + at.frequency;
            const Complex value = scale * sums.at[i][j];
            *to = keep ? *to + value : value;
        }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    multiply(const Complex *a, const Complex *b, Complex *c, Sizes n, Real scale, int keep) {
    const Spot at = spot<THREADS, false>(n);
    if (at.frequency >= n.frequencies)
        return;
    const Factors factors(a, b, n, at);
    Sums sums = {};
#pragma unroll 4
    for (int term = 0; term < n.terms; ++term)
        factors.multiply(sums, term);
    write(c, n, at, sums, scale, keep);
}

// The same for long sums, which SLICES of threads share.
extern "C" __global__ void __launch_bounds__(WIDTH *SLICES, RESIDENT)
    collect(const Complex *a, const Complex *b, Complex *c, Sizes n, Real scale, int keep) {
    __shared__ Sums parts[SLICES / 2][WIDTH];
    Spot at = spot<WIDTH, true>(n);
    const bool there = at.frequency < n.frequencies;
    at.frequency = min(at.frequency, n.frequencies - 1);
    const int slice = threadIdx.x / WIDTH, lane = threadIdx.x % WIDTH;
    const Factors factors(a, b, n, at);
    Sums total = {};
    for (int first = slice; first < n.terms; first += SLICES * TERMS) {
        Sums sums = {};
#pragma unroll 2
        for (int term = first; term < min(first + SLICES * TERMS, n.terms); term += SLICES)
            factors.multiply(sums, term);
        total.add(sums);
    }
    for (int half = SLICES / 2; half; half /= 2) {
        if (slice >= half && slice < 2 * half)
            parts[slice - half][lane] = total;
        __syncthreads();
        if (slice < half)
            total.add(parts[slice][lane]);
        __syncthreads();
    }
    if (slice == 0 && there)
        write(c, n, at, total, scale, keep);
}

// The matrices of F(m, r) by Toom-Cook, as in toomcook.py: a - 1 points and infinity, a = m + r - 1; and how
// to apply them in registers. Points and powers are dyadic, so that all but the quotients in the matrices of
// filters are exact. Macros: STEP (m), TAPS (r), POINTS (the finite ones).
#pragma once

constexpr double FINITE[] = {POINTS};
constexpr int SIZE = STEP + TAPS - 1;
static_assert(sizeof(FINITE) / sizeof(double) == SIZE - 1, "F(m, r) needs m + r - 2 finite points");

template <int ROWS, int COLS>
struct Matrix {
    static constexpr int rows = ROWS, cols = COLS;
    double at[ROWS][COLS] = {};
};

// 1, p, p^2, ...: evaluation at p, times a factor; at infinity the leading coefficient.
template <int COLS>
__device__ constexpr Matrix<SIZE, COLS> evaluation(bool scaled) {
    Matrix<SIZE, COLS> x;
    for (int i = 0; i < SIZE - 1; ++i) {
        double power = 1, scale = 1;
        for (int k = 0; k < SIZE - 1; ++k)
            if (scaled && k != i) scale *= FINITE[i] - FINITE[k];
        for (int j = 0; j < COLS; ++j, power *= FINITE[i]) x.at[i][j] = power / scale;
    }
    x.at[SIZE - 1][COLS - 1] = 1;
    return x;
}

template <int ROWS>
__device__ constexpr Matrix<ROWS, SIZE> transposed(Matrix<SIZE, ROWS> x) {
    Matrix<ROWS, SIZE> y;
    for (int i = 0; i < ROWS; ++i)
        for (int j = 0; j < SIZE; ++j) y.at[i][j] = x.at[j][i];
    return y;
}

// Row i: the coefficients of the product of x - p over all points but the i-th; the last row misses none.
__device__ constexpr Matrix<SIZE, SIZE> interpolation() {
    Matrix<SIZE, SIZE> x;
    for (int i = 0; i < SIZE; ++i) {
        x.at[i][0] = 1;
        for (int k = 0; k < SIZE - 1; ++k)
            for (int j = SIZE - 1; k != i && j >= 0; --j)
                x.at[i][j] = (j ? x.at[i][j - 1] : 0) - FINITE[k] * x.at[i][j];
    }
    return x;
}

// ---- transforms by their names in the literature ----------------------------------------------------------

struct Data {
    static constexpr int rows = SIZE, cols = SIZE;
    static __device__ constexpr auto matrix() { return interpolation(); }
};

struct Filter {
    static constexpr int rows = SIZE, cols = TAPS;
    static __device__ constexpr auto matrix() { return evaluation<TAPS>(true); }
};

struct Gradient {
    static constexpr int rows = SIZE, cols = STEP;
    static __device__ constexpr auto matrix() { return evaluation<STEP>(true); }
};

struct Inverse {
    static constexpr int rows = STEP, cols = SIZE;
    static __device__ constexpr auto matrix() { return transposed(evaluation<STEP>(false)); }
};

struct GradientInverse {
    static constexpr int rows = TAPS, cols = SIZE;
    static __device__ constexpr auto matrix() { return transposed(evaluation<TAPS>(false)); }
};

// One element of X d; the compiler drops zeros and multiplications by one.
template <class X>
__device__ __forceinline__ float dot(int row, const float *d, int stride) {
    constexpr auto matrix = X::matrix();
    float sum = 0.0f;
    bool first = true;
#pragma unroll
    for (int i = 0; i < X::cols; ++i) {
        const float x = matrix.at[row][i];
        if (x == 0.0f) continue;
        sum = first ? x * d[i * stride] : fmaf(x, d[i * stride], sum);
        first = false;
    }
    return sum;
}

// half_way = X d
template <class X>
__device__ __forceinline__ void columns(const float *d, float *half_way) {
#pragma unroll
    for (int j = 0; j < X::cols; ++j)
#pragma unroll
        for (int i = 0; i < X::rows; ++i) half_way[i * X::cols + j] = dot<X>(i, d + j, X::cols);
}

// Nothing that a transform makes of values up to 1 is larger.
template <class X>
__device__ constexpr float bound() {
    const auto matrix = X::matrix();
    double largest = 0;
    for (int i = 0; i < X::rows; ++i) {
        double sum = 0;
        for (int j = 0; j < X::cols; ++j) sum += matrix.at[i][j] < 0 ? -matrix.at[i][j] : matrix.at[i][j];
        if (sum > largest) largest = sum;
    }
    return largest * largest;
}

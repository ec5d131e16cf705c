// Tensor-core and asynchronous-copy instructions of algorithms/cuda_implicit_tensor.cuh on a CPU.
//
// Copies happen at once. Shared addresses are offsets from the beginning of dynamic shared memory. wgmma needs
// no other thread: each computes its own results from the matrices that descriptors tell of.
#pragma once

#define __CUDA_ARCH_FEAT_SM90_ALL 1
#define INLINED inline __attribute__((always_inline))  // at whatever level of optimization

inline unsigned shared_address(const void *at) { return (const char *)at - emulator::dynamic_shared; }
inline void copy_chunk(unsigned to, const uint4 *from, bool there) {
    if (there) memcpy(emulator::dynamic_shared + to, from, 16);
    else memset(emulator::dynamic_shared + to, 0, 16);
}
inline void commit_copies() {}
template <int PENDING> void wait_for_copies() {}

namespace emulator {
constexpr unsigned TERMS = 16;  // of one instruction
typedef float Terms __attribute__((vector_size(4 * TERMS)));
typedef unsigned Bits __attribute__((vector_size(4 * TERMS)));
typedef uint16_t Halves __attribute__((vector_size(2 * TERMS)));

// The same numbers as half_value and bfloat_value make of each, without a branch.
template <bool BF16> INLINED Terms widen(const Halves &halves) {
    const Bits bits = __builtin_convertvector(halves, Bits);
    if (BF16) return (Terms)(bits << 16);
    const Terms values = (Terms)((bits & 0x7fff) << 13) * 0x1p112f;
    const Bits beyond = (Bits)(values >= 65536.0f) & 0x7f800000;  // infinities and NaN
    return (Terms)((Bits)values | beyond | (bits & 0x8000) << 16);
}

// One product after the other, as the order of sums decides their last bits.
INLINED float add_products(float sum, const Terms &left, const Terms &right) {
    const Terms products = left * right;
    const float *product = (const float *)&products;
#pragma GCC unroll 16
    for (unsigned k = 0; k < TERMS; ++k) sum += product[k];
    return sum;
}

inline uint16_t half_at(unsigned address) {
    uint16_t bits;
    memcpy(&bits, dynamic_shared + address, 2);
    return bits;
}

// What every lane of the warp shows, by lane.
struct Shown {
    unsigned long long by[32];
};
inline Shown show(unsigned long long value) {
    return exchange(~0u, value, [](auto seen) {
        Shown all;
        for (unsigned i = 0; i < 32; ++i) all.by[i] = seen(i);
        return all;
    });
}
}  // namespace emulator

// Lane l of matrix m gets row l / 4, columns l % 4 * 2 and the next, or that of the transposed matrix.
template <bool TRANSPOSED> void load_matrices(unsigned (&to)[4], unsigned from) {
    const emulator::Shown rows = emulator::show(from);
    const unsigned lane = emulator::lane(), group = lane / 4, pair = lane % 4 * 2;
    for (unsigned m = 0; m < 4; ++m) {
        const auto at = [&](unsigned row, unsigned col) {
            return (unsigned)emulator::half_at(rows.by[8 * m + row] + 2 * col);
        };
        to[m] = TRANSPOSED ? at(pair, group) | at(pair + 1, group) << 16
                           : at(group, pair) | at(group, pair + 1) << 16;
    }
}

namespace emulator {
// Two numbers each of an operand's 16 terms, as four neighbouring lanes hold them: first eight, last eight.
template <class Words> INLINED Halves gather_terms(const Words (&lanes)[4], unsigned first, unsigned last) {
    Halves all;
    for (unsigned i = 0; i < 4; ++i) {
        memcpy((char *)&all + 4 * i, &lanes[i].of[first], 4);
        memcpy((char *)&all + 16 + 4 * i, &lanes[i].of[last], 4);
    }
    return all;
}

// A left operand in registers: this lane's upper and lower row.
struct Rows {
    Terms of[2];
};
template <bool BF16> Rows rows_of(const unsigned (&a)[4]) {
    struct Words {
        unsigned of[4];
    };
    return exchange(~0u, Words{{a[0], a[1], a[2], a[3]}}, [](auto seen) {
        const unsigned group = lane() / 4 * 4;
        const Words lanes[] = {seen(group), seen(group + 1), seen(group + 2), seen(group + 3)};
        return Rows{{widen<BF16>(gather_terms(lanes, 0, 2)), widen<BF16>(gather_terms(lanes, 1, 3))}};
    });
}
}  // namespace emulator

template <bool BF16> void mma(float *d, const unsigned (&a)[4], unsigned b0, unsigned b1) {
    struct Words {
        unsigned of[2];
    };
    const emulator::Rows rows = emulator::rows_of<BF16>(a);
    const unsigned first = emulator::lane() % 4 * 2;
    emulator::exchange(~0u, Words{{b0, b1}}, [&](auto seen) {
        for (unsigned i = 0; i < 2; ++i) {
            const unsigned group = (first + i) * 4;
            const Words lanes[] = {seen(group), seen(group + 1), seen(group + 2), seen(group + 3)};
            const emulator::Terms column = emulator::widen<BF16>(emulator::gather_terms(lanes, 0, 1));
            d[i] = emulator::add_products(d[i], rows.of[0], column);
            d[2 + i] = emulator::add_products(d[2 + i], rows.of[1], column);
        }
        return 0;
    });
}

inline void show_copies() {}
inline void begin_wgmma() {}
inline void commit_wgmma() {}
template <int PENDING> void wait_for_wgmma() {}
template <int COUNT> void settle(float (&)[COUNT]) {}

namespace emulator {
// A matrix as a descriptor tells of it: `i` counts rows or columns of the product, `k` terms.
struct Described {
    unsigned start, columns, rows;
    bool outermost;

    Described(unsigned long long d, bool outermost)
        : start((d & 0x3fff) << 4), columns((d >> 16 & 0x3fff) << 4), rows((d >> 32 & 0x3fff) << 4),
          outermost(outermost) {}

    INLINED unsigned address(unsigned i, unsigned k) const {
        const unsigned row = outermost ? k : i, col = outermost ? i : k;
        const unsigned plain = start + row / 8 * rows + row % 8 * 128 + col / 64 * columns + col % 64 * 2;
        return plain ^ (plain >> 3 & 0x70);
    }

    template <int BYTES> INLINED void take(Halves &to, unsigned i, unsigned k) const {
        memcpy((char *)&to + 2 * k, dynamic_shared + address(i, k), BYTES);
    }

    // All terms of a row or column; eight that follow each other are one chunk.
    INLINED Halves terms(unsigned i) const {
        Halves all;
        if (outermost)
            for (unsigned k = 0; k < TERMS; ++k) take<2>(all, i, k);
        else
            for (unsigned k = 0; k < TERMS; k += 8) take<16>(all, i, k);
        return all;
    }
};

// A lane's results of N columns: two neighbours of each eight, in the upper and in the lower row.
template <int N, bool BF16> void multiply(float *d, const Rows &left, const Described &right, int add) {
    const unsigned first = lane() % 4 * 2;
    for (unsigned i = 0; i < N / 4; ++i) {
        const Terms column = widen<BF16>(right.terms(i / 2 * 8 + first + i % 2));
        float *const upper = d + i / 2 * 4 + i % 2, *const lower = upper + 2;
        *upper = add_products(add ? *upper : 0, left.of[0], column);
        *lower = add_products(add ? *lower : 0, left.of[1], column);
    }
}

// A left operand in shared memory: this lane's upper and lower row.
template <bool BF16> Rows rows_of(const Described &left) {
    const unsigned row = threadIdx.x / 32 % 4 * 16 + lane() / 4;
    return {{widen<BF16>(left.terms(row)), widen<BF16>(left.terms(row + 8))}};
}
}  // namespace emulator

template <int N, bool BF16, bool OUTERMOST, bool LEFT_OUTERMOST = OUTERMOST>
void wgmma(float *d, unsigned long long a, unsigned long long b, int add) {
    const emulator::Described left(a, LEFT_OUTERMOST), right(b, OUTERMOST);
    emulator::multiply<N, BF16>(d, emulator::rows_of<BF16>(left), right, add);
}

// ---- bulk copies happen at once too -----------------------------------------------------------------------

inline void init_arrivals(unsigned) {}
inline void show_barriers() {}
inline void expect_bytes(unsigned, int) {}
inline void wait_for_bytes(unsigned, int) {}

namespace emulator {
// A tensor map as tensor_maps.py beside this file encodes it; sizes and strides of (c, w, h, n) or (x, y, z).
struct Map {
    unsigned long long address, strides[3];
    int sizes[4], low[2], high[2], step[2], box[2];
};

inline Map decode(const TensorMap &map) {
    Map plain;
    static_assert(sizeof(plain) <= sizeof(map));
    memcpy(&plain, &map, sizeof(plain));
    return plain;
}

// 128 bytes to a swizzled row, zeros for what lies outside of the tensor.
inline void copy_row(unsigned to, unsigned row, const Map &map, int c, const int (&at)[3]) {
    bool inside = true;
    unsigned long long from = map.address;
    for (int i = 0; i < 3; ++i) {
        inside = inside && at[i] >= 0 && at[i] < map.sizes[i + 1];
        from += at[i] * map.strides[i];
    }
    for (int i = 0; i < 64; ++i) {
        const unsigned address = to + row * 128 + i * 2;
        const bool there = inside && c + i >= 0 && c + i < map.sizes[0];
        const uint16_t bits = there ? ((const uint16_t *)from)[c + i] : 0;
        memcpy(dynamic_shared + (address ^ (address >> 3 & 0x70)), &bits, 2);
    }
}
}  // namespace emulator

inline void copy_box(unsigned to, const TensorMap &map, int x, int y, int z, unsigned) {
    const emulator::Map plain = emulator::decode(map);
    for (int row = 0; row < plain.box[1]; ++row) emulator::copy_row(to, row, plain, x, {y + row, z, 0});
}
inline void copy_box(unsigned to, const TensorMap &map, int x, int y, unsigned barrier) {
    copy_box(to, map, x, y, 0, barrier);
}
inline void copy_pixels(unsigned to, const TensorMap &map, int c, int w, int h, int n, int tap_col,
                        int tap_row, unsigned) {
    const emulator::Map plain = emulator::decode(map);
    for (int pixel = 0; pixel < plain.box[1]; ++pixel) {
        emulator::copy_row(to, pixel, plain, c, {w + tap_col, h + tap_row, n});
        if ((w += plain.step[0]) <= plain.sizes[1] - 1 + plain.high[0]) continue;
        w = plain.low[0];
        if ((h += plain.step[1]) <= plain.sizes[2] - 1 + plain.high[1]) continue;
        h = plain.low[1];
        ++n;
    }
}

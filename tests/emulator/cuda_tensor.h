// Tensor-core and asynchronous-copy instructions of algorithms/cuda_implicit_tensor.cuh on a CPU.
//
// Copies happen at once. Shared addresses are offsets from the beginning of dynamic shared memory. wgmma needs
// no other thread: each computes its own results from the matrices that descriptors tell of.
#pragma once

#include <vector>

#define __CUDA_ARCH_FEAT_SM90_ALL 1

inline unsigned shared_address(const void *at) { return (const char *)at - emulator::dynamic_shared; }
inline void copy_chunk(unsigned to, const uint4 *from, bool there) {
    if (there) memcpy(emulator::dynamic_shared + to, from, 16);
    else memset(emulator::dynamic_shared + to, 0, 16);
}
inline void commit_copies() {}
template <int PENDING> void wait_for_copies() {}

namespace emulator {
template <bool BF16> float widen(uint16_t bits) {
    static const std::vector<float> values = [] {
        std::vector<float> all(1 << 16);
        for (unsigned i = 0; i < all.size(); ++i) all[i] = BF16 ? bfloat_value(i) : half_value(i);
        return all;
    }();
    return values[bits];
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

template <bool BF16> void mma(float *d, const unsigned (&a)[4], unsigned b0, unsigned b1) {
    const auto both = [](unsigned low, unsigned high) { return (unsigned long long)high << 32 | low; };
    const emulator::Shown low = emulator::show(both(a[0], a[1])), high = emulator::show(both(a[2], a[3]));
    const emulator::Shown right = emulator::show(both(b0, b1));
    const unsigned lane = emulator::lane();
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned col = lane % 4 * 2 + i % 2, upper = i / 2;
        for (unsigned k = 0; k < 16; ++k) {
            const unsigned lanes = k % 8 / 2, shift = 16 * (k % 2);
            const auto left = (k < 8 ? low : high).by[lane / 4 * 4 + lanes] >> 32 * upper >> shift;
            const auto other = right.by[col * 4 + lanes] >> (k < 8 ? 0 : 32) >> shift;
            d[i] += emulator::widen<BF16>(left) * emulator::widen<BF16>(other);
        }
    }
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

    uint16_t at(unsigned i, unsigned k) const {
        const unsigned row = outermost ? k : i, col = outermost ? i : k;
        const unsigned address = start + row / 8 * rows + row % 8 * 128 + col / 64 * columns + col % 64 * 2;
        return half_at(address ^ (address >> 3 & 0x70));
    }
};
}  // namespace emulator

template <int N, bool BF16, bool OUTERMOST, bool LEFT_OUTERMOST = OUTERMOST>
void wgmma(float *d, unsigned long long a, unsigned long long b, int add) {
    const emulator::Described left(a, LEFT_OUTERMOST), right(b, OUTERMOST);
    const unsigned lane = emulator::lane(), warp = threadIdx.x / 32 % 4;
    float row[2][16];
    for (unsigned upper = 0; upper < 2; ++upper)
        for (unsigned k = 0; k < 16; ++k)
            row[upper][k] = emulator::widen<BF16>(left.at(16 * warp + lane / 4 + 8 * upper, k));
    for (unsigned i = 0; i < N / 2; ++i) {
        const unsigned col = i / 4 * 8 + lane % 4 * 2 + i % 2;
        float sum = add ? d[i] : 0;
        for (unsigned k = 0; k < 16; ++k)
            sum += row[i / 2 % 2][k] * emulator::widen<BF16>(right.at(col, k));
        d[i] = sum;
    }
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

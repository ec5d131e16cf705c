// Where the points of transforms lie in tensors.
//
// A lane is one tile of one channel: lane = (image, tile row, tile column, group, part, channel), the last
// fastest; parts are the phases of a stride.
#pragma once

// Element i of tile y in part a lies at (y step + i) parts + a - lead of an axis whose pixels lie `spread`
// apart. The first `window` elements of a tile are the image's; transformed, they begin at `offset`.
struct Axis {
    int size, stride, lead, parts, spread, step, window, count, offset;
};

// Where the lanes of a tensor lie in memory; strides in elements.
struct Map {
    long long origin, image, channel;
    Axis rows, cols;
    int groups, channels;
};

// `count` points of a tile from `begin` on may be pixels; point 0 has this position.
struct Span {
    int position, begin, count;
};

struct Place {
    long long base;
    Span rows, cols;
};

__device__ Span span(const Axis &axis, int tile, int part) {
    const int first = tile * axis.step * axis.parts + part - axis.lead;
    const int length = (axis.size - 1) * axis.spread + 1 - first;
    const int begin = first < 0 ? (axis.parts - 1 - first) / axis.parts : 0;
    const int end = length > 0 ? min((length - 1) / axis.parts + 1, axis.window) : 0;
    return {first - axis.offset * axis.parts, begin + axis.offset, max(end - begin, 0)};
}

__device__ Place place(int lane, const Map &map) {
    const auto digit = [&lane](int base) {
        const int rest = lane % base;
        lane /= base;
        return rest;
    };
    const int channel = digit(map.channels), b = digit(map.cols.parts), a = digit(map.rows.parts);
    const int group = digit(map.groups), x = digit(map.cols.count), y = digit(map.rows.count);
    return {map.origin + lane * map.image + (group * map.channels + channel) * map.channel,
            span(map.rows, y, a), span(map.cols, x, b)};
}

__device__ __forceinline__ bool is_inside(const Span &at, int i) {
    return unsigned(i - at.begin) < unsigned(at.count);
}

// Whether point i of a row or column is a pixel, and which. Pixels `spread` apart are taps of a filter: their
// positions are far below 2^20, where this division, by means of the inverse, is exact.
template <bool TAPS>
__device__ __forceinline__ bool is_pixel(const Axis &axis, const Span &at, int i, int &index, float inverse) {
    const int position = at.position + i * axis.parts;
    index = TAPS ? int((position + 0.5f) * inverse) : position;
    return is_inside(at, i) && (!TAPS || index * axis.spread == position);
}

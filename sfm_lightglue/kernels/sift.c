/* Orientations and descriptors of SIFT.

   The same steps as in sfm_lightglue/extractors/sift_descriptors.py, which says what the numbers mean. */

#include "kernels.h"

#define ORIENTATION_SIDE 15
#define ORIENTATION_BINS 36
#define PEAK_RATIO 0.8
#define CELLS 4
#define BINS 8
#define SAMPLES_PER_CELL 4
#define SIDE ((CELLS + 1) * SAMPLES_PER_CELL)
#define MAX_SIDE (SIDE + 2)
#define LARGEST_VALUE 0.2f

/* Blobs of one layer of the scale space.

   image: [height, width] of the layer. num: blobs. x, y: their centres, with the centre of the first pixel at 0.
   cosines, sines: of the angle of the patch, times the standard deviation of the blob in pixels. */
typedef struct {
    const float *image;
    int64_t height, width, num;
    const float *x, *y, *cosines, *sines;
} Layer;

/* Sample points by bilinear interpolation, and replicate the border of the image. The coordinates are overwritten. */
HOT static void sample(const float *image, int32_t height, int32_t width, int32_t num, float *restrict u,
                       float *restrict v, float *restrict out)
{
    const float last_x = (float)(width - 1), last_y = (float)(height - 1);
    for (int32_t i = 0; i < num; i++) {
        u[i] = u[i] > 0 ? u[i] : 0;
        v[i] = v[i] > 0 ? v[i] : 0;
        u[i] = u[i] < last_x ? u[i] : last_x;
        v[i] = v[i] < last_y ? v[i] : last_y;
    }
    for (int32_t i = 0; i < num; i++) {
        int32_t column = (int32_t)u[i], row = (int32_t)v[i];
        column = column < width - 2 ? column : width - 2;
        row = row < height - 2 ? row : height - 2;
        const int32_t at = row * width + column;
        const float right = u[i] - (float)column, down = v[i] - (float)row;
        const float upper = image[at] + right * (image[at + 1] - image[at]);
        const float lower = image[at + width] + right * (image[at + width + 1] - image[at + width]);
        out[i] = upper + down * (lower - upper);
    }
}

/* Lengths and directions of gradients, the directions in bins: num_bins for a full turn, counted from x to y. */
HOT static void lengths_and_directions(const float *x, const float *y, int32_t num, float num_bins,
                                       float *restrict lengths, float *restrict directions)
{
    for (int32_t i = 0; i < num; i++) {
        const float a = fabsf(x[i]), b = fabsf(y[i]), large = a > b ? a : b, small = a > b ? b : a;
        /* Arc tangent in turns, by a polynomial with an error of 1e-4 degrees. */
        const float q = small / (large > 1e-30f ? large : 1e-30f), s = q * q;
        float turn = 0.008379080332815647f + s * -0.0018651563441380858f;
        turn = 0.030802905559539795f + s * (-0.018529845401644707f + s * turn);
        turn = q * (0.15915131568908691f + s * (-0.052938565611839294f + s * turn));
        turn = b > a ? 0.25f - turn : turn;
        turn = x[i] < 0 ? 0.5f - turn : turn;
        turn = y[i] < 0 ? 1.0f - turn : turn;
        lengths[i] = sqrtf(x[i] * x[i] + y[i] * y[i]);
        directions[i] = turn * num_bins;
    }
}

/* Gradients of a patch of a blob, [side, side] each, zero outside the image. ticks: [side + 2] positions of samples
   along a side, in standard deviations of the blob. */
HOT static void gradients(const Layer *layer, int64_t blob, const float *ticks, int32_t side, float *restrict x,
                      float *restrict y)
{
    float along[MAX_SIDE], across[MAX_SIDE];
    float u[MAX_SIDE * MAX_SIDE], v[MAX_SIDE * MAX_SIDE], samples[MAX_SIDE * MAX_SIDE];
    const float last_x = (float)(layer->width - 1), last_y = (float)(layer->height - 1);
    const float centre_x = layer->x[blob], centre_y = layer->y[blob];
    const int32_t outer = side + 2;
    for (int32_t i = 0; i < outer; i++) {
        along[i] = ticks[i] * layer->cosines[blob];
        across[i] = ticks[i] * layer->sines[blob];
    }
    for (int32_t j = 0; j < outer; j++)
        for (int32_t i = 0; i < outer; i++) {
            u[j * outer + i] = along[i] + centre_x - across[j];
            v[j * outer + i] = across[i] + centre_y + along[j];
        }
    sample(layer->image, (int32_t)layer->height, (int32_t)layer->width, outer * outer, u, v, samples);
    for (int32_t j = 0; j < side; j++) {
        const float *middle = samples + (j + 1) * outer + 1;
        for (int32_t i = 0; i < side; i++) {
            x[j * side + i] = middle[i + 1] - middle[i - 1];
            y[j * side + i] = middle[i + outer] - middle[i - outer];
        }
    }
    const float reach = 1.5f * ticks[outer - 1] * sqrtf(layer->cosines[blob] * layer->cosines[blob] +
                                                        layer->sines[blob] * layer->sines[blob]);
    if (centre_x >= reach && centre_y >= reach && centre_x + reach <= last_x && centre_y + reach <= last_y)
        return;
    for (int32_t j = 0; j < side; j++)
        for (int32_t i = 0; i < side; i++) {
            const float u = along[i + 1] + centre_x - across[j + 1], v = across[i + 1] + centre_y + along[j + 1];
            if (!(u > 0 && u < last_x && v > 0 && v < last_y))
                x[j * side + i] = y[j * side + i] = 0;
        }
}

/* The two lowest angles of the peaks of a cyclic histogram that are nearly the highest; NaN for a missing one. */
static void lowest_peaks(const double *sums, float *lowest, float *next)
{
    enum { n = ORIENTATION_BINS };
    double wide[n + 4], smooth[n + 2], highest = 0, angles[2] = {INFINITY, INFINITY};
    for (int i = 0; i < n + 4; i++)
        wide[i] = sums[(i + n - 2) % n];
    for (int i = 0; i < n; i++) {
        smooth[i + 1] = (wide[i] + wide[i + 4] + 4 * (wide[i + 1] + wide[i + 3]) + 6 * wide[i + 2]) / 16;
        highest = smooth[i + 1] > highest ? smooth[i + 1] : highest;
    }
    smooth[0] = smooth[n];
    smooth[n + 1] = smooth[1];
    for (int i = 0; i < n; i++) {
        const double before = smooth[i], peak = smooth[i + 1], after = smooth[i + 2];
        if (!(peak > before && peak > after && peak >= PEAK_RATIO * highest))
            continue;
        double bin = i + 0.5 * (before - after) / (before - 2 * peak + after);
        bin = bin < 0 ? bin + n : bin >= n ? bin - n : bin;
        if (bin < angles[0]) {
            angles[1] = angles[0];
            angles[0] = bin;
        } else if (bin < angles[1])
            angles[1] = bin;
    }
    const double radians = 6.283185307179586 / n;
    *lowest = isinf(angles[0]) ? NAN : (float)(angles[0] * radians);
    *next = isinf(angles[1]) ? NAN : (float)(angles[1] * radians);
}

/* The two lowest dominant directions of each blob in radians; NaN where there are fewer.

   ticks: [ORIENTATION_SIDE + 2], weights: [ORIENTATION_SIDE, ORIENTATION_SIDE] of the gradients. */
EXPORT void find_orientations(const float *image, int64_t height, int64_t width, int64_t num, const float *x,
                              const float *y, const float *cosines, const float *sines, const float *ticks,
                              const float *weights, float *lowest, float *next)
{
    enum { SIZE = ORIENTATION_SIDE * ORIENTATION_SIDE, PARTS = 4 }; /* neighbours mostly fall into one bin */
    const Layer layer = {image, height, width, num, x, y, cosines, sines};
    for (int64_t blob = 0; blob < num; blob++) {
        float gradient_x[SIZE], gradient_y[SIZE], lengths[SIZE], directions[SIZE];
        double parts[PARTS][ORIENTATION_BINS + 1] = {{0}}, sums[ORIENTATION_BINS];
        gradients(&layer, blob, ticks, ORIENTATION_SIDE, gradient_x, gradient_y);
        lengths_and_directions(gradient_x, gradient_y, SIZE, ORIENTATION_BINS, lengths, directions);
        for (int i = 0; i < SIZE; i++) {
            const int bin = (int)(directions[i] + 0.5f);
            parts[i % PARTS][bin] += (double)(lengths[i] * weights[i]);
        }
        for (int bin = 0; bin < ORIENTATION_BINS; bin++)
            sums[bin] = parts[0][bin] + parts[1][bin] + parts[2][bin] + parts[3][bin];
        sums[0] += parts[0][ORIENTATION_BINS] + parts[1][ORIENTATION_BINS] + parts[2][ORIENTATION_BINS] +
                   parts[3][ORIENTATION_BINS]; /* a full turn is none */
        lowest_peaks(sums, lowest + blob, next + blob);
    }
}

/* Share of each sample along a side in the cells before and after it, and the index of the former, from -1. */
typedef struct {
    float before[SIDE], after[SIDE];
    int cell[SIDE];
} Shares;

/* weights: [CELLS, SIDE] of each sample along a side in each cell. */
static Shares shares_of_cells(const float *weights)
{
    Shares shares;
    for (int i = 0; i < SIDE; i++) {
        const int cell = (2 * i + 1 + 2 * SAMPLES_PER_CELL) / (2 * SAMPLES_PER_CELL) - 2;
        shares.cell[i] = cell;
        shares.before[i] = cell >= 0 ? weights[cell * SIDE + i] : 0;
        shares.after[i] = cell + 1 < CELLS ? weights[(cell + 1) * SIDE + i] : 0;
    }
    return shares;
}

/* Descriptor [CELLS, CELLS, BINS] of length 1, no value of which was above the limit before the last division. */
HOT static void limit(const float *sums, float *restrict descriptor)
{
    enum { SIZE = CELLS * CELLS * BINS };
    float length = 0, limited_length = 0;
    for (int i = 0; i < SIZE; i++)
        length += sums[i] * sums[i];
    const float largest = LARGEST_VALUE * sqrtf(length);
    for (int i = 0; i < SIZE; i++) {
        descriptor[i] = sums[i] < largest ? sums[i] : largest;
        limited_length += descriptor[i] * descriptor[i];
    }
    limited_length = sqrtf(limited_length);
    limited_length = limited_length > 1e-12f ? limited_length : 1e-12f;
    for (int i = 0; i < SIZE; i++)
        descriptor[i] /= limited_length;
}

HOT static void sum_cells(const float *lengths, const float *directions, const Shares *shares, float *restrict sums)
{
    float padded[CELLS + 2][CELLS * BINS]; /* the first and the last row of cells lie outside */
    memset(padded, 0, sizeof padded);
    for (int j = 0; j < SIDE; j++) {
        float row[CELLS + 2][BINS] = {{0}};
        for (int i = 0; i < SIDE; i++) {
            const float length = lengths[j * SIDE + i], direction = directions[j * SIDE + i];
            const int lower = (int)direction, first = lower & (BINS - 1), second = (lower + 1) & (BINS - 1);
            const float upper_share = (direction - (float)lower) * length, lower_share = length - upper_share;
            float *before = row[shares->cell[i] + 1], *after = before + BINS;
            before[first] += shares->before[i] * lower_share;
            before[second] += shares->before[i] * upper_share;
            after[first] += shares->after[i] * lower_share;
            after[second] += shares->after[i] * upper_share;
        }
        const float *inner = row[1], up = shares->before[j], down = shares->after[j];
        float *before = padded[shares->cell[j] + 1], *after = padded[shares->cell[j] + 2];
        for (int i = 0; i < CELLS * BINS; i++) {
            before[i] += up * inner[i];
            after[i] += down * inner[i];
        }
    }
    memcpy(sums, padded[1], CELLS * CELLS * BINS * sizeof *sums);
}

/* Descriptors [num, CELLS CELLS BINS] of blobs with angles. ticks: [SIDE + 2]; weights: see `shares_of_cells`. */
EXPORT void describe_blobs(const float *image, int64_t height, int64_t width, int64_t num, const float *x,
                           const float *y, const float *cosines, const float *sines, const float *ticks,
                           const float *weights, float *descriptors)
{
    enum { SIZE = SIDE * SIDE };
    const Layer layer = {image, height, width, num, x, y, cosines, sines};
    const Shares shares = shares_of_cells(weights);
    for (int64_t blob = 0; blob < num; blob++) {
        float gradient_x[SIZE], gradient_y[SIZE], lengths[SIZE], directions[SIZE], sums[CELLS * CELLS * BINS];
        gradients(&layer, blob, ticks, SIDE, gradient_x, gradient_y);
        for (int i = 0; i < SIZE; i++)
            gradient_y[i] = -gradient_y[i];
        lengths_and_directions(gradient_x, gradient_y, SIZE, BINS, lengths, directions);
        sum_cells(lengths, directions, &shares, sums);
        limit(sums, descriptors + blob * CELLS * CELLS * BINS);
    }
}

/* The scale space of SIFT: blurred images, and the extrema of their differences.

   The same steps as in sfm_lightglue/extractors/scale_space.py, which says what the numbers mean. */

#include "kernels.h"

#define LAYERS 3
#define NUM_BLURRED (LAYERS + 3)
#define NUM_DIFFERENCES (LAYERS + 2)
#define BORDER 5
#define MAX_STEPS 5
#define MAX_RADIUS 32 /* of the blurs */

#define CHUNK 64 /* pixels whose sums stay in registers */

/* out[x] = weights[0] rows[radius][x] + sum over k of weights[k] (rows[radius - k][x] + rows[radius + k][x]) */
HOT static void weighted_sum(const float *const *rows, const float *weights, int64_t radius, int64_t width,
                             float *restrict out)
{
    int64_t x = 0;
#if defined(__GNUC__)
    typedef float Lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));
    for (; x + CHUNK <= width; x += CHUNK) {
        Lanes sums[CHUNK / LANES];
        for (int i = 0; i < CHUNK / LANES; i++)
            sums[i] = *(const Lanes *)(rows[radius] + x + i * LANES) * weights[0];
        for (int64_t k = 1; k <= radius; k++) {
            const float *before = rows[radius - k] + x, *after = rows[radius + k] + x;
            for (int i = 0; i < CHUNK / LANES; i++)
                sums[i] += (*(const Lanes *)(before + i * LANES) + *(const Lanes *)(after + i * LANES)) * weights[k];
        }
        for (int i = 0; i < CHUNK / LANES; i++)
            *(Lanes *)(out + x + i * LANES) = sums[i];
    }
#endif
    for (; x < width; x++) {
        float sum = weights[0] * rows[radius][x];
        for (int64_t k = 1; k <= radius; k++)
            sum += weights[k] * (rows[radius - k][x] + rows[radius + k][x]);
        out[x] = sum;
    }
}

/* Index within 0..size - 1, mirrored at the centres of the first and the last pixel. */
static int64_t mirrored(int64_t i, int64_t size)
{
    const int64_t period = size > 1 ? 2 * (size - 1) : 1;
    i %= period;
    if (i < 0)
        i += period;
    return i < size ? i : period - i;
}

/* Images of which each is the one before, blurred. done: rows of each one that exist. weights: [MAX_RADIUS + 1] of each
   one but the first, from the centre. */
typedef struct {
    float *const *images;
    int64_t num_images, height, width;
    const float *weights;
    const int64_t *radii;
    int64_t done[NUM_BLURRED + 1];
    float *padded;
    const float *rows[2 * MAX_RADIUS + 1];
} Pyramid;

static void blur_row(Pyramid *pyramid, int64_t number, int64_t y)
{
    const int64_t height = pyramid->height, width = pyramid->width, radius = pyramid->radii[number - 1];
    const float *weights = pyramid->weights + (number - 1) * (MAX_RADIUS + 1);
    float *middle = pyramid->padded + MAX_RADIUS;
    for (int64_t k = -radius; k <= radius; k++)
        pyramid->rows[k + radius] = pyramid->images[number - 1] + mirrored(y + k, height) * width;
    weighted_sum(pyramid->rows, weights, radius, width, middle);
    for (int64_t k = 1; k <= radius; k++) {
        middle[-k] = middle[mirrored(-k, width)];
        middle[width - 1 + k] = middle[mirrored(width - 1 + k, width)];
    }
    for (int64_t k = -radius; k <= radius; k++)
        pyramid->rows[k + radius] = middle + k;
    weighted_sum(pyramid->rows, weights, radius, width, pyramid->images[number] + y * width);
}

/* Compute the rows of an image up to y, and what they need of the images before. */
static void require_rows(Pyramid *pyramid, int64_t number, int64_t y)
{
    for (; pyramid->done[number] <= y; pyramid->done[number]++) {
        const int64_t row = pyramid->done[number], last = row + pyramid->radii[number - 1];
        if (number > 1)
            require_rows(pyramid, number - 1, last < pyramid->height ? last : pyramid->height - 1);
        blur_row(pyramid, number, row);
    }
}

HOT static void doubled_row(const uint8_t *above, const uint8_t *below, int64_t width, float *restrict out)
{
    for (int64_t x = 0; x < width; x++) {
        const int64_t next = x + 1 < width ? x + 1 : x;
        const float here = 0.5f * ((float)above[x] + (float)below[x]);
        const float there = 0.5f * ((float)above[next] + (float)below[next]);
        out[2 * x] = here;
        out[2 * x + 1] = 0.5f * (here + there);
    }
}

/* An image of twice the size: pixel i becomes pixel 2 i. out: [2 height, 2 width]. */
EXPORT void double_size(const uint8_t *pixels, int64_t height, int64_t width, float *out)
{
    for (int64_t y = 0; y < height; y++) {
        const uint8_t *row = pixels + y * width, *below = y + 1 < height ? row + width : row;
        doubled_row(row, row, width, out + 4 * y * width);
        doubled_row(row, below, width, out + (4 * y + 2) * width);
    }
}

HOT static void difference(const float *before, const float *after, int64_t width, float *restrict out)
{
    for (int64_t x = 0; x < width; x++)
        out[x] = fabsf(after[x] - before[x]);
}

/* largest: of the 3 x 3 values around each one of the middle row; is_peak: where it is this one, and not faint. */
HOT static void peaks_of_row(const float *const *rows, int64_t width, float faintest, float *restrict column,
                             float *restrict largest, uint8_t *restrict is_peak)
{
    const float *above = rows[0], *middle = rows[1], *below = rows[2];
    for (int64_t x = 0; x < width; x++) {
        const float outer = above[x] > below[x] ? above[x] : below[x];
        column[x] = outer > middle[x] ? outer : middle[x];
    }
    for (int64_t x = 1; x < width - 1; x++) {
        const float outer = column[x - 1] > column[x + 1] ? column[x - 1] : column[x + 1];
        largest[x] = outer > column[x] ? outer : column[x];
        is_peak[x] = (uint8_t)((middle[x] == largest[x]) & (middle[x] > faintest));
    }
}

INLINE float largest_around(const float *const *rows, int64_t x)
{
    float largest = rows[0][x];
    for (int row = 0; row < 3; row++)
        for (int64_t i = x - 1; i <= x + 1; i++)
            largest = rows[row][i] > largest ? rows[row][i] : largest;
    return largest;
}

/* The search for extrema, row by row.

   rows: the rows y - 2, y - 1 and y of the absolute differences. The other rows are memory of the middle row. */
typedef struct {
    const float *const *blurred;
    int64_t height, width;
    float faintest;
    float *differences, *largest, *column;
    uint8_t *is_peak;
    int64_t capacity, found;
    int32_t *places;
    float *values;
} Search;

static int begin_search(Search *search)
{
    const size_t width = (size_t)search->width;
    search->differences = malloc((NUM_DIFFERENCES * 3 + LAYERS + 1) * width * sizeof *search->differences);
    search->is_peak = malloc(LAYERS * width);
    if (search->differences == NULL || search->is_peak == NULL)
        return 0;
    search->largest = search->differences + NUM_DIFFERENCES * 3 * width;
    search->column = search->largest + LAYERS * width;
    return 1;
}

static void end_search(Search *search)
{
    free(search->differences);
    free(search->is_peak);
}

static void note_extremum(Search *search, int layer, int64_t y, int64_t x, float value)
{
    if (search->found < search->capacity) {
        int32_t *place = search->places + 3 * search->found;
        place[0] = layer;
        place[1] = (int32_t)y;
        place[2] = (int32_t)x;
        search->values[search->found] = value;
    }
    search->found++;
}

/* Look at the row y - 1, after the rows before y; all blurred images have the row y. */
static void search_row(Search *search, int64_t y)
{
    const int64_t width = search->width;
    const float *rows[NUM_DIFFERENCES][3];
    if (y < BORDER - 1 || y > search->height - BORDER)
        return;
    for (int layer = 0; layer < NUM_DIFFERENCES; layer++) {
        float *of_layer = search->differences + 3 * layer * width;
        difference(search->blurred[layer] + y * width, search->blurred[layer + 1] + y * width, width,
                   of_layer + (y % 3) * width);
        for (int row = 0; row < 3; row++)
            rows[layer][row] = of_layer + ((y + 1 + row) % 3) * width;
    }
    if (y < BORDER + 1)
        return;
    for (int layer = 1; layer <= LAYERS; layer++)
        peaks_of_row(rows[layer], width, search->faintest, search->column, search->largest + (layer - 1) * width,
                     search->is_peak + (layer - 1) * width);
    for (int layer = 1; layer <= LAYERS; layer++) {
        const uint8_t *mask = search->is_peak + (layer - 1) * width;
        const float *largest = search->largest + (layer - 1) * width; /* of this layer */
        for (int64_t x = BORDER; x < width - BORDER; x++) {
            uint64_t eight;
            if (x + 8 <= width - BORDER) {
                memcpy(&eight, mask + x, sizeof eight);
                if (eight == 0) {
                    x += 7;
                    continue;
                }
            }
            if (!mask[x])
                continue;
            const float value = rows[layer][1][x];
            const float lower = layer > 1 ? largest[x - width] : largest_around(rows[0], x);
            if (value < lower)
                continue;
            const float upper = layer < LAYERS ? largest[x + width] : largest_around(rows[LAYERS + 1], x);
            if (value >= upper)
                note_extremum(search, layer, y - 1, x, value);
        }
    }
}

/* Places whose absolute difference of neighbouring blurred images is the largest of 3 x 3 x 3, above the faintest one.

   blurred: NUM_BLURRED images. places: [capacity, 3] (layer, y, x), values: [capacity].
   Returns the number of places, of which no more than the capacity are written; -1 without memory. */
EXPORT int64_t find_extrema(const float *const *blurred, int64_t height, int64_t width, float faintest, int64_t capacity,
                            int32_t *places, float *values)
{
    Search search = {blurred, height, width, faintest, NULL, NULL, NULL, NULL, capacity, 0, places, values};
    const int has_memory = begin_search(&search);
    for (int64_t y = 0; y < height && has_memory; y++)
        search_row(&search, y);
    end_search(&search);
    return has_memory ? search.found : -1;
}

/* Blur images one after the other, and find the extrema of the last NUM_BLURRED of them, see `find_extrema`. Rows of all
   images are computed and searched together, while they are in the cache of the processor.

   images: the first exists. The last may lie in its memory: the rows of the first that are overwritten are not needed
   any more. weights, radii: see `Pyramid`. */
EXPORT int64_t blur_and_find(float *const *images, int64_t num_images, int64_t height, int64_t width,
                             const float *weights, const int64_t *radii, float faintest, int64_t capacity,
                             int32_t *places, float *values)
{
    const float *blurred[NUM_BLURRED];
    Pyramid pyramid = {images, num_images, height, width, weights, radii, {height}, NULL, {NULL}};
    Search search = {blurred, height, width, faintest, NULL, NULL, NULL, NULL, capacity, 0, places, values};
    for (int i = 0; i < NUM_BLURRED; i++)
        blurred[i] = images[num_images - NUM_BLURRED + i];
    pyramid.padded = malloc((size_t)(width + 2 * MAX_RADIUS) * sizeof *pyramid.padded);
    const int has_memory = begin_search(&search) && pyramid.padded != NULL;
    for (int64_t y = 0; y < height && has_memory; y++) {
        require_rows(&pyramid, num_images - 1, y);
        search_row(&search, y);
    }
    free(pyramid.padded);
    end_search(&search);
    return has_memory ? search.found : -1;
}

typedef struct {
    double value, gradient[3], hessian[6]; /* second derivatives ll, ly, lx, yy, yx, xx */
} Derivatives;

static Derivatives derivatives(const float *const *blurred, int64_t width, int64_t layer, int64_t y, int64_t x)
{
    double d[3][3][3];
    for (int l = 0; l < 3; l++)
        for (int row = 0; row < 3; row++)
            for (int column = 0; column < 3; column++) {
                const int64_t at = (y + row - 1) * width + x + column - 1;
                d[l][row][column] = (double)(blurred[layer + l][at] - blurred[layer + l - 1][at]);
            }
    const double twice = 2 * d[1][1][1];
    Derivatives found = {
        d[1][1][1],
        {0.5 * (d[2][1][1] - d[0][1][1]), 0.5 * (d[1][2][1] - d[1][0][1]), 0.5 * (d[1][1][2] - d[1][1][0])},
        {d[2][1][1] + d[0][1][1] - twice,
         0.25 * (d[2][2][1] - d[2][0][1] - d[0][2][1] + d[0][0][1]),
         0.25 * (d[2][1][2] - d[2][1][0] - d[0][1][2] + d[0][1][0]),
         d[1][2][1] + d[1][0][1] - twice,
         0.25 * (d[1][2][2] - d[1][2][0] - d[1][0][2] + d[1][0][0]),
         d[1][1][2] + d[1][1][0] - twice},
    };
    return found;
}

/* offsets: solution of hessian offsets = -gradient. Returns whether there is one. */
static int solve(const Derivatives *at, double *offsets)
{
    const double *h = at->hessian, *g = at->gradient;
    const double adjoint[6] = {h[3] * h[5] - h[4] * h[4], h[2] * h[4] - h[1] * h[5], h[1] * h[4] - h[2] * h[3],
                               h[0] * h[5] - h[2] * h[2], h[1] * h[2] - h[0] * h[4], h[0] * h[3] - h[1] * h[1]};
    const double determinant = h[0] * adjoint[0] + h[1] * adjoint[1] + h[2] * adjoint[2];
    if (!(fabs(determinant) > 2.2250738585072014e-308))
        return 0;
    offsets[0] = -(adjoint[0] * g[0] + adjoint[1] * g[1] + adjoint[2] * g[2]) / determinant;
    offsets[1] = -(adjoint[1] * g[0] + adjoint[3] * g[1] + adjoint[4] * g[2]) / determinant;
    offsets[2] = -(adjoint[2] * g[0] + adjoint[4] * g[1] + adjoint[5] * g[2]) / determinant;
    return 1;
}

static int is_blob(const double *hessian, double edge_threshold)
{
    const double trace = hessian[3] + hessian[5], determinant = hessian[3] * hessian[5] - hessian[4] * hessian[4];
    const double limit = edge_threshold + 1;
    return determinant > 0 && trace * trace * edge_threshold < limit * limit * determinant;
}

/* Fit a quadratic function around each place [num, 3], and move to where its extremum is.

   For each extremum that is found: rows: where it began, places: where it is (in place of the input), offsets [num, 3]
   from there to the extremum, values. Returns their number. */
EXPORT int64_t refine_extrema(const float *const *blurred, int64_t height, int64_t width, int64_t num,
                              double edge_threshold, int32_t *places, int32_t *rows, double *offsets, double *values)
{
    const double far = (double)(height > width ? height : width);
    int64_t found = 0;
    for (int64_t row = 0; row < num; row++) {
        int64_t layer = places[3 * row], y = places[3 * row + 1], x = places[3 * row + 2];
        for (int step = 0; step < MAX_STEPS; step++) {
            const Derivatives at = derivatives(blurred, width, layer, y, x);
            double offset[3], largest = 0;
            if (!solve(&at, offset))
                break;
            for (int i = 0; i < 3; i++)
                largest = fabs(offset[i]) > largest ? fabs(offset[i]) : largest;
            if (largest < 0.5) {
                if (!is_blob(at.hessian, edge_threshold))
                    break;
                const double *g = at.gradient;
                places[3 * found] = (int32_t)layer;
                places[3 * found + 1] = (int32_t)y;
                places[3 * found + 2] = (int32_t)x;
                memcpy(offsets + 3 * found, offset, sizeof offset);
                values[found] = at.value + 0.5 * (g[0] * offset[0] + g[1] * offset[1] + g[2] * offset[2]);
                rows[found++] = (int32_t)row;
                break;
            }
            if (!(largest < far))
                break;
            layer += (int64_t)rint(offset[0]);
            y += (int64_t)rint(offset[1]);
            x += (int64_t)rint(offset[2]);
            if (layer < 1 || layer > LAYERS || y < BORDER || y >= height - BORDER || x < BORDER || x >= width - BORDER)
                break;
        }
    }
    return found;
}

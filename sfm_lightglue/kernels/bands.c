/* The most similar keypoints within each other's epipolar bands.

   The same steps as in sfm_lightglue/two_view/band_search.py, which says what the numbers mean, but keypoint by keypoint
   instead of block by block, so that only descriptors within a band are compared. */

#include "kernels.h"

#define NOT_ALLOWED (-2.0f)

/* The keypoints of one image, sorted by class and angle. starts: [num_classes + 1]. class_reaches: [num_classes];
   descriptors: [num, size], the size being a multiple of LANES; all others: [num]. */
typedef struct {
    int64_t num, num_classes, size;
    const int64_t *starts;
    const double *class_reaches;
    const float *angles, *reaches, *squared_reaches, *squared_slopes, *squared_other_limits, *depths, *descriptors;
} Keypoints;

HOT static float dot(const float *a, const float *b, int64_t size)
{
    float sums[LANES] = {0};
    for (int64_t i = 0; i < size; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            sums[lane] += a[i + lane] * b[i + lane];
    for (int lane = 0; lane < LANES / 2; lane++)
        sums[lane] += sums[lane + LANES / 2];
    for (int lane = 0; lane < LANES / 4; lane++)
        sums[lane] += sums[lane + LANES / 4];
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

/* First index of angles[first..last - 1], which ascend, whose angle is at least (or, if above, more than) the value. */
static int64_t position(const float *angles, int64_t first, int64_t last, float value, int above)
{
    while (first < last) {
        const int64_t middle = first + (last - first) / 2;
        if (angles[middle] < value || (above && angles[middle] == value))
            first = middle + 1;
        else
            last = middle;
    }
    return first;
}

/* Keypoints that can lie in the band of one keypoint, and their similarities. */
typedef struct {
    int64_t num;
    int64_t *columns;
    float *similarities;
} Candidates;

static void add_range(const Keypoints *keypoints, int64_t row, const Keypoints *others, float period, int64_t first,
                      int64_t last, Candidates *found)
{
    const float angle = keypoints->angles[row], limit = keypoints->squared_other_limits[row];
    const float reach = keypoints->squared_reaches[row], depth = keypoints->depths[row];
    const float *descriptor = keypoints->descriptors + row * keypoints->size;
    for (int64_t column = first; column < last; column++) {
        float gap = angle - others->angles[column];
        if (gap > period / 2 || gap < -period / 2)
            gap -= rintf(gap * (1 / period)) * period;
        if (gap * gap - limit * others->squared_slopes[column] > reach || others->depths[column] < depth)
            continue;
        found->columns[found->num] = column;
        found->similarities[found->num++] = dot(descriptor, others->descriptors + column * others->size, others->size);
    }
}

static void add_class(const Keypoints *keypoints, int64_t row, const Keypoints *others, float period, int64_t number,
                      float rounding, Candidates *found)
{
    const int64_t first = others->starts[number], last = others->starts[number + 1];
    const float widest = (float)others->class_reaches[number], own = keypoints->reaches[row];
    const float reach = sqrtf(own * own + widest * widest) * (1 + 1e-5f) + rounding;
    const int is_wide = row >= keypoints->starts[keypoints->num_classes - 1] || number == others->num_classes - 1;
    if (is_wide || 2 * reach >= 0.99f * period) {
        add_range(keypoints, row, others, period, first, last, found);
        return;
    }
    const float low = keypoints->angles[row] - reach, high = keypoints->angles[row] + reach;
    const float turns[3] = {0, -period, period};
    for (int turn = 0; turn < 3; turn++) {
        if ((turn == 1 && high < period) || (turn == 2 && low > 0))
            continue;
        const int64_t begin = position(others->angles, first, last, low + turns[turn], 0);
        add_range(keypoints, row, others, period, begin, position(others->angles, begin, last, high + turns[turn], 1),
                  found);
    }
}

/* For each keypoint of image 0, the best one of image 1 within its band and the two largest similarities; for each one
   of image 1, the largest similarity with keypoints of image 0 whose best one is another. -2 where there is none.

   The arrays columns, best and second have the size of image 0, rest that of image 1; all are overwritten.
   Returns 0, or 1 without memory. */
EXPORT int64_t search_bands(const Keypoints *keypoints, const Keypoints *others, double period, double rounding,
                            int64_t *columns, float *best, float *second, float *rest)
{
    const size_t capacity = (size_t)others->num + 1;
    Candidates found = {0, malloc(capacity * sizeof(int64_t)), malloc(capacity * sizeof(float))};
    const int failed = found.columns == NULL || found.similarities == NULL;
    for (int64_t column = 0; column < others->num; column++)
        rest[column] = NOT_ALLOWED;
    for (int64_t row = 0; row < keypoints->num && !failed; row++) {
        int64_t chosen = 0;
        columns[row] = 0;
        best[row] = second[row] = NOT_ALLOWED;
        found.num = 0;
        for (int64_t number = 0; number < others->num_classes; number++)
            if (others->starts[number] < others->starts[number + 1])
                add_class(keypoints, row, others, (float)period, number, (float)rounding, &found);
        for (int64_t i = 1; i < found.num; i++)
            if (found.similarities[i] > found.similarities[chosen])
                chosen = i;
        for (int64_t i = 0; i < found.num; i++) {
            const float similarity = found.similarities[i];
            const int64_t column = found.columns[i];
            if (i == chosen) {
                columns[row] = column;
                best[row] = similarity;
                continue;
            }
            second[row] = similarity > second[row] ? similarity : second[row];
            rest[column] = similarity > rest[column] ? similarity : rest[column];
        }
    }
    free(found.columns);
    free(found.similarities);
    return failed;
}

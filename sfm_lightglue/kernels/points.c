/* Positions of points whose cameras are known.

   The same steps as `best_positions` in sfm_lightglue/geometry/point_positions.py, which says what the numbers mean. */

#include "kernels.h"

/* Observations of points, in columns of num numbers. R: 9 columns by rows of the rotation; t: 3; xy: 2; scale: 1, or 4
   by rows of a matrix. */
typedef struct {
    int64_t num;
    const double *R, *t, *xy, *scale;
    int is_matrix;
} Views;

INLINE void scaled(const Views *views, int64_t at, const double *difference, double *out)
{
    const double *scale = views->scale + at;
    if (!views->is_matrix) {
        out[0] = difference[0] * scale[0];
        out[1] = difference[1] * scale[0];
        return;
    }
    for (int i = 0; i < 2; i++)
        out[i] = scale[2 * i * views->num] * difference[0] + scale[(2 * i + 1) * views->num] * difference[1];
}

/* Add what one observation of a point tells to the upper half of the Hessian [6] and to the gradient [3]. */
INLINE void add_observation(const Views *views, int64_t at, const double *xyz, double loss, double *hessian,
                            double *gradient)
{
    const int64_t num = views->num;
    double in_camera[3], J[3][2], error[2], difference[2];
    for (int i = 0; i < 3; i++) {
        const double *row = views->R + 3 * i * num + at;
        in_camera[i] = row[0] * xyz[0] + row[num] * xyz[1] + row[2 * num] * xyz[2] + views->t[i * num + at];
    }
    const double depth = fabs(in_camera[2]) > 1e-9 ? in_camera[2] : 1e-9;
    const double x = in_camera[0] / depth, y = in_camera[1] / depth;
    difference[0] = x - views->xy[at];
    difference[1] = y - views->xy[num + at];
    scaled(views, at, difference, error);
    for (int i = 0; i < 3; i++) {
        const double last = views->R[(6 + i) * num + at];
        difference[0] = (views->R[i * num + at] - x * last) / depth;
        difference[1] = (views->R[(3 + i) * num + at] - y * last) / depth;
        scaled(views, at, difference, J[i]);
    }
    const double squared = error[0] * error[0] + error[1] * error[1];
    const double weight = loss > 0 ? 1 / sqrt(1 + squared / (loss * loss)) : 1;
    for (int i = 0, k = 0; i < 3; i++) {
        gradient[i] += weight * (J[i][0] * error[0] + J[i][1] * error[1]);
        for (int j = i; j < 3; j++, k++)
            hessian[k] += weight * (J[i][0] * J[j][0] + J[i][1] * J[j][1]);
    }
}

/* One step [3] of a point; returns by how much it changes all errors together. */
static double step_of_point(const double *h, const double *g, double *step)
{
    double trace = h[0] + h[3] + h[5];
    trace = 1e-9 * (trace > 1e-30 ? trace : 1e-30);
    /* Cholesky decomposition of [h0 h1 h2; h1 h3 h4; h2 h4 h5]. */
    const double a = sqrt(h[0] + trace), b = h[1] / a, c = h[2] / a;
    const double d = sqrt(h[3] + trace - b * b), e = (h[4] - b * c) / d, f = sqrt(h[5] + trace - c * c - e * e);
    const double u = g[0] / a, v = (g[1] - b * u) / d, w = (g[2] - c * u - e * v) / f;
    step[2] = w / f;
    step[1] = (v - e * step[2]) / d;
    step[0] = (u - b * step[1] - c * step[2]) / a;
    const double change = step[0] * g[0] + step[1] * g[1] + step[2] * g[2];
    return sqrt(change > 0 ? change : 0);
}

/* Gauss-Newton steps of points. point: [num] row of the point of each observation. loss: scale of a soft L1 loss, 0 for
   squared errors. xyz: [num_points, 3], overwritten. A point ends with a step that changes less than `is_short`.
   Returns 0, or 1 without memory. */
EXPORT int64_t best_positions(int64_t num_points, int64_t num, const int64_t *point, const double *R, const double *t,
                              const double *xy, const double *scale, int64_t is_matrix, double loss, double is_short,
                              int64_t max_steps, double *xyz)
{
    const Views views = {num, R, t, xy, scale, is_matrix != 0};
    int64_t *starts = calloc((size_t)num_points + 2, sizeof *starts), *order = malloc(((size_t)num + 1) * sizeof *order);
    const int failed = starts == NULL || order == NULL;
    for (int64_t i = 0; i < num && !failed; i++)
        starts[point[i] + 2]++;
    for (int64_t i = 0; i < num_points && !failed; i++)
        starts[i + 2] += starts[i + 1];
    for (int64_t i = 0; i < num && !failed; i++)
        order[starts[point[i] + 1]++] = i;
    for (int64_t i = 0; i < num_points && !failed; i++)
        for (int64_t number = 0; number < max_steps; number++) {
            double hessian[6] = {0}, gradient[3] = {0}, step[3];
            for (int64_t k = starts[i]; k < starts[i + 1]; k++)
                add_observation(&views, order[k], xyz + 3 * i, loss, hessian, gradient);
            const double change = step_of_point(hessian, gradient, step);
            for (int j = 0; j < 3; j++)
                xyz[3 * i + j] -= step[j];
            if (!(change > is_short))
                break;
        }
    free(starts);
    free(order);
    return failed;
}

/* Squared reprojection errors and depths of points in cameras.

   xyz: [P, 3]. point, keypoint: [num] rows of a point and of a keypoint. image: [K] camera of each keypoint; xy: [K, 2].
   R: [I, 3, 3]; t: [I, 3]; scale: [I] errors per unit of the normalised image. squared, depth: [num]. */
EXPORT void squared_errors(int64_t num, const double *xyz, const int64_t *point, const int64_t *keypoint,
                           const int64_t *image, const double *xy, const double *R, const double *t,
                           const double *scale, double *squared, double *depth)
{
    for (int64_t i = 0; i < num; i++) {
        const double *at = xyz + 3 * point[i], *seen = xy + 2 * keypoint[i];
        const int64_t camera = image[keypoint[i]];
        const double *rotation = R + 9 * camera;
        double in_camera[3];
        for (int row = 0; row < 3; row++)
            in_camera[row] = rotation[3 * row] * at[0] + rotation[3 * row + 1] * at[1] +
                             rotation[3 * row + 2] * at[2] + t[3 * camera + row];
        const double x = (in_camera[0] / in_camera[2] - seen[0]) * scale[camera];
        const double y = (in_camera[1] / in_camera[2] - seen[1]) * scale[camera];
        squared[i] = x * x + y * y;
        depth[i] = in_camera[2];
    }
}

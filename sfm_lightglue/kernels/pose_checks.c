/* How well matches fit poses.

   The same steps as in sfm_lightglue/two_view/pose_batch.py, which says what the numbers mean. */

#include "kernels.h"

/* The errors [num] of one matrix M [3, 3]. */
HOT static void errors_of_matrix(const double *points, int64_t num, const double *M, double *restrict squared)
{
    const double *u0 = points, *v0 = points + num, *u1 = points + 3 * num, *v1 = points + 4 * num;
    for (int64_t i = 0; i < num; i++) {
        const double x = M[0] * u0[i] + M[1] * v0[i] + M[2], y = M[3] * u0[i] + M[4] * v0[i] + M[5];
        const double z = M[0] * u1[i] + M[3] * v1[i] + M[6], w = M[1] * u1[i] + M[4] * v1[i] + M[7];
        const double product = u1[i] * x + v1[i] * y + (M[6] * u0[i] + M[7] * v0[i] + M[8]);
        const double length = x * x + y * y + z * z + w * w;
        squared[i] = product * product / (length > 1e-24 ? length : 1e-24);
    }
}

/* Squared Sampson errors. points: [15, num], of which rows 0, 1, 3 and 4 are used. matrices: [num_matrices, 3, 3].
   squared: [num_matrices, num], overwritten. */
EXPORT void sampson_errors(const double *points, int64_t num, const double *matrices, int64_t num_matrices,
                           double *squared)
{
    for (int64_t i = 0; i < num_matrices; i++)
        errors_of_matrix(points, num, matrices + 9 * i, squared + i * num);
}

/* Which matches [num] lie in front of both cameras of one pose. */
HOT static void in_front_of_pose(const double *rays0, const double *rays1, int64_t num, const double *R,
                                 const double *t, double max_squared_sine, uint8_t *restrict is_front)
{
    for (int64_t i = 0; i < num; i++) {
        const double x = rays0[i], y = rays0[num + i], z = rays0[2 * num + i];
        const double a = R[0] * x + R[1] * y + R[2] * z, b = R[3] * x + R[4] * y + R[5] * z;
        const double c = R[6] * x + R[7] * y + R[8] * z;
        const double d = rays1[i], e = rays1[num + i], f = rays1[2 * num + i];
        const double cosine = a * d + b * e + c * f;
        const double along0 = a * t[0] + b * t[1] + c * t[2], along1 = d * t[0] + e * t[1] + f * t[2];
        const int front = (cosine * along1 - along0 > 0) & (along1 - cosine * along0 > 0);
        is_front[i] = (uint8_t)(front | ((cosine > 0) & (1 - cosine * cosine <= max_squared_sine)));
    }
}

/* Which matches lie in front of both cameras, or have parallel rays. rays0, rays1: [3, num] of length 1.
   R: [num_poses, 3, 3]. t: [num_poses, 3]. is_front: [num_poses, num], overwritten. */
EXPORT void find_in_front(const double *rays0, const double *rays1, int64_t num, const double *R, const double *t,
                          int64_t num_poses, double max_squared_sine, uint8_t *is_front)
{
    for (int64_t i = 0; i < num_poses; i++)
        in_front_of_pose(rays0, rays1, num, R + 9 * i, t + 3 * i, max_squared_sine, is_front + i * num);
}

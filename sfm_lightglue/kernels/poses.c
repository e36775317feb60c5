/* Least squares of relative poses on Sampson errors.

   The same steps as `fit_poses` in sfm_lightglue/two_view/pose_batch.py, which says what the numbers mean. */

#include "kernels.h"

#define WIDTH 8 /* matches that are computed together, and partial sums */
#define PARAMETERS 5
#define PRODUCTS (PARAMETERS * (PARAMETERS + 1) / 2)
#define MAX_STEP 0.3
#define MIN_GAIN 1e-4

/* One candidate. num: its matches, filled up to a multiple of WIDTH with some of no weight. turns: R, and a basis
   whose third column is t. points: u0, v0, u1, v1 and whether it counts, of each match. */
typedef struct {
    int64_t num;
    double turns[2][9], damping, cost;
    double *points, *residuals, *weights;
    double moved_turns[2][9], moved_cost;
    double *moved_residuals, *moved_weights;
} Candidate;

static void product(const double *a, const double *b, double *out)
{
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            out[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
}

static void cross_matrix(double x, double y, double z, double *out)
{
    const double matrix[9] = {0, -z, y, z, 0, -x, -y, x, 0};
    memcpy(out, matrix, sizeof matrix);
}

static void essential(double turns[2][9], double *E)
{
    double cross[9];
    cross_matrix(turns[1][2], turns[1][5], turns[1][8], cross);
    product(cross, turns[0], E);
}

/* Rotation about a vector; the angle is twice the arc tangent of half of its length. */
static void rotation(double x, double y, double z, double *out)
{
    double K[9], squared[9];
    const double scale = 4 / (4 + x * x + y * y + z * z);
    cross_matrix(x, y, z, K);
    product(K, K, squared);
    for (int i = 0; i < 9; i++)
        out[i] = (i % 4 == 0) + scale * (K[i] + 0.5 * squared[i]);
}

/* x1' M x0 (last) and the normals of the epipolar lines in image 1 and in image 0, of WIDTH matches. */
INLINE void normals(const double *M, const double *u0, const double *v0, const double *u1, const double *v1,
                    double out[5][WIDTH])
{
    for (int i = 0; i < WIDTH; i++) {
        out[0][i] = M[0] * u0[i] + M[1] * v0[i] + M[2];
        out[1][i] = M[3] * u0[i] + M[4] * v0[i] + M[5];
        out[2][i] = M[0] * u1[i] + M[3] * v1[i] + M[6];
        out[3][i] = M[1] * u1[i] + M[4] * v1[i] + M[7];
        out[4][i] = u1[i] * out[0][i] + v1[i] * out[1][i] + (M[6] * u0[i] + M[7] * v0[i] + M[8]);
    }
}

/* Cost of a pose; residuals and weights are written. */
HOT static double evaluate(const Candidate *candidate, double turns[2][9], double inverse_scale, int is_truncated,
                           double *restrict residuals, double *restrict weights)
{
    const int64_t num = candidate->num;
    const double *points = candidate->points;
    double E[9], sums[WIDTH] = {0}, cost = 0;
    essential(turns, E);
    for (int64_t start = 0; start < num; start += WIDTH) {
        double n[5][WIDTH];
        const double *counted = points + 4 * num + start;
        normals(E, points + start, points + num + start, points + 2 * num + start, points + 3 * num + start, n);
        for (int i = 0; i < WIDTH; i++) {
            const double length = n[0][i] * n[0][i] + n[1][i] * n[1][i] + n[2][i] * n[2][i] + n[3][i] * n[3][i];
            const double residual = n[4][i] / sqrt(length > 1e-24 ? length : 1e-24);
            const double relative = residual * inverse_scale, squared = relative * relative;
            const double root = sqrt(1 + squared), inside = squared < 1 ? counted[i] : 0;
            residuals[start + i] = residual;
            weights[start + i] = is_truncated ? inside : counted[i] / root;
            sums[i] += is_truncated ? inside * (squared - 1) : counted[i] * 2 * (root - 1);
        }
    }
    for (int i = 0; i < WIDTH; i++)
        cost += sums[i];
    return cost;
}

/* Sums of the products of the derivatives: hessian [PRODUCTS] by rows of its upper half, and gradient [PARAMETERS]. */
HOT static void normal_equations(const Candidate *candidate, const double *E, double derivatives[PARAMETERS][9],
                                 double *hessian, double *gradient)
{
    const int64_t num = candidate->num;
    double products[PRODUCTS][WIDTH] = {{0}}, slopes[PARAMETERS][WIDTH] = {{0}};
    for (int64_t start = 0; start < num; start += WIDTH) {
        const double *u0 = candidate->points + start, *v0 = u0 + num, *u1 = v0 + num, *v1 = u1 + num;
        const double *residuals = candidate->residuals + start, *weights = candidate->weights + start;
        double n[5][WIDTH], inverse[WIDTH], J[PARAMETERS][WIDTH];
        normals(E, u0, v0, u1, v1, n);
        for (int i = 0; i < WIDTH; i++) {
            const double length = n[0][i] * n[0][i] + n[1][i] * n[1][i] + n[2][i] * n[2][i] + n[3][i] * n[3][i];
            inverse[i] = 1 / sqrt(length > 1e-24 ? length : 1e-24);
        }
        for (int p = 0; p < PARAMETERS; p++) {
            double d[5][WIDTH];
            normals(derivatives[p], u0, v0, u1, v1, d);
            for (int i = 0; i < WIDTH; i++) {
                const double along = n[0][i] * d[0][i] + n[1][i] * d[1][i] + n[2][i] * d[2][i] + n[3][i] * d[3][i];
                J[p][i] = (d[4][i] - residuals[i] * inverse[i] * along) * inverse[i];
            }
        }
        for (int p = 0, at = 0; p < PARAMETERS; p++) {
            double weighted[WIDTH];
            for (int i = 0; i < WIDTH; i++) {
                weighted[i] = weights[i] * J[p][i];
                slopes[p][i] += weighted[i] * residuals[i];
            }
            for (int q = p; q < PARAMETERS; q++, at++)
                for (int i = 0; i < WIDTH; i++)
                    products[at][i] += weighted[i] * J[q][i];
        }
    }
    for (int at = 0; at < PRODUCTS; at++) {
        hessian[at] = 0;
        for (int i = 0; i < WIDTH; i++)
            hessian[at] += products[at][i];
    }
    for (int p = 0; p < PARAMETERS; p++) {
        gradient[p] = 0;
        for (int i = 0; i < WIDTH; i++)
            gradient[p] += slopes[p][i];
    }
}

/* Solve matrix x = side, with pivots; both are overwritten. Returns 0 for a singular matrix. */
static int solve(double matrix[PARAMETERS][PARAMETERS], double *side)
{
    for (int column = 0; column < PARAMETERS; column++) {
        int pivot = column;
        for (int row = column + 1; row < PARAMETERS; row++)
            if (fabs(matrix[row][column]) > fabs(matrix[pivot][column]))
                pivot = row;
        if (!(fabs(matrix[pivot][column]) > 0))
            return 0;
        for (int i = 0; i < PARAMETERS; i++) {
            const double kept = matrix[column][i];
            matrix[column][i] = matrix[pivot][i];
            matrix[pivot][i] = kept;
        }
        const double kept = side[column];
        side[column] = side[pivot];
        side[pivot] = kept;
        for (int row = column + 1; row < PARAMETERS; row++) {
            const double factor = matrix[row][column] / matrix[column][column];
            for (int i = column; i < PARAMETERS; i++)
                matrix[row][i] -= factor * matrix[column][i];
            side[row] -= factor * side[column];
        }
    }
    for (int row = PARAMETERS - 1; row >= 0; row--) {
        for (int i = row + 1; i < PARAMETERS; i++)
            side[row] -= matrix[row][i] * side[i];
        side[row] /= matrix[row][row];
    }
    return 1;
}

/* The rotations after one step. */
static void move(Candidate *candidate)
{
    double E[9], derivatives[PARAMETERS][9], cross[9], turned[9];
    double (*turns)[9] = candidate->turns;
    essential(turns, E);
    cross_matrix(turns[1][2], turns[1][5], turns[1][8], cross);
    for (int axis = 0; axis < 3; axis++) {
        double axis_cross[9], both[9];
        cross_matrix(axis == 0, axis == 1, axis == 2, axis_cross);
        product(cross, axis_cross, both);
        product(both, turns[0], derivatives[axis]);
    }
    for (int column = 0; column < 2; column++) {
        cross_matrix(turns[1][column], turns[1][3 + column], turns[1][6 + column], turned);
        product(turned, turns[0], derivatives[3 + column]);
    }
    double upper[PRODUCTS], step[PARAMETERS], matrix[PARAMETERS][PARAMETERS], trace = 0, length = 0;
    normal_equations(candidate, E, derivatives, upper, step);
    for (int p = 0, at = 0; p < PARAMETERS; p++)
        for (int q = p; q < PARAMETERS; q++, at++)
            matrix[p][q] = matrix[q][p] = upper[at];
    for (int p = 0; p < PARAMETERS; p++)
        trace += matrix[p][p];
    for (int p = 0; p < PARAMETERS; p++)
        matrix[p][p] += candidate->damping * matrix[p][p] + 1e-12 * trace + 1e-300;
    if (!solve(matrix, step))
        memset(step, 0, sizeof step);
    for (int p = 0; p < PARAMETERS; p++)
        length += step[p] * step[p];
    length = sqrt(length);
    const double factor = length > MAX_STEP ? -MAX_STEP / length : -1;
    for (int p = 0; p < PARAMETERS; p++)
        step[p] *= factor;
    double turn[9];
    rotation(step[0], step[1], step[2], turn);
    product(turn, turns[0], candidate->moved_turns[0]);
    rotation(-step[4], step[3], 0, turn);
    product(turns[1], turn, candidate->moved_turns[1]);
}

static void exchange(double **a, double **b)
{
    double *kept = *a;
    *a = *b;
    *b = kept;
}

/* Gather the matches of a candidate from points [15, num] (rows 0, 1, 3 and 4) and its mask [num] into its memory. */
static void gather(Candidate *candidate, const double *points, int64_t num, const uint8_t *mask, double *memory)
{
    int64_t counted = 0, rows[4] = {0, 1, 3, 4};
    for (int64_t i = 0; i < num; i++)
        counted += mask[i] != 0;
    candidate->num = (counted + WIDTH - 1) / WIDTH * WIDTH;
    candidate->points = memory;
    candidate->residuals = memory + 5 * candidate->num;
    candidate->weights = memory + 6 * candidate->num;
    candidate->moved_residuals = memory + 7 * candidate->num;
    candidate->moved_weights = memory + 8 * candidate->num;
    memset(memory, 0, (size_t)(5 * candidate->num) * sizeof *memory);
    for (int64_t i = 0, at = 0; i < num; i++) {
        if (!mask[i])
            continue;
        for (int row = 0; row < 4; row++)
            memory[row * candidate->num + at] = points[rows[row] * num + i];
        memory[4 * candidate->num + at] = 1;
        at++;
    }
}

/* Fit poses. points: [15, num]. masks: [num_candidates, num]. turns: [num_candidates, 2, 3, 3], overwritten.
   Returns 0, or 1 without memory. */
EXPORT int64_t fit_poses(const double *points, int64_t num, const uint8_t *masks, int64_t num_candidates, double scale,
                         int64_t is_truncated, int64_t num_steps, double *turns)
{
    const size_t size = 9 * (size_t)(num + WIDTH);
    Candidate *candidates = malloc((size_t)(num_candidates + 1) * sizeof *candidates);
    double *memory = malloc((size_t)(num_candidates + 1) * size * sizeof *memory);
    const int failed = candidates == NULL || memory == NULL, truncated = is_truncated != 0;
    int is_done = failed;
    for (int64_t i = 0; i < num_candidates && !failed; i++) {
        Candidate *one = candidates + i;
        gather(one, points, num, masks + i * num, memory + (size_t)i * size);
        memcpy(one->turns, turns + 18 * i, sizeof one->turns);
        one->damping = 1e-3;
        one->cost = evaluate(one, one->turns, 1 / scale, truncated, one->residuals, one->weights);
    }
    for (int64_t step = 0; step < num_steps && !is_done; step++) {
        is_done = 1;
        for (int64_t i = 0; i < num_candidates; i++) {
            Candidate *one = candidates + i;
            move(one);
            one->moved_cost = evaluate(one, one->moved_turns, 1 / scale, truncated, one->moved_residuals,
                                       one->moved_weights);
            const double gain = one->cost - one->moved_cost;
            is_done &= gain <= MIN_GAIN * fabs(one->cost);
            one->damping *= gain > 0 ? 0.1 : 10;
            if (!(gain > 0))
                continue;
            one->cost = one->moved_cost;
            memcpy(one->turns, one->moved_turns, sizeof one->turns);
            exchange(&one->residuals, &one->moved_residuals);
            exchange(&one->weights, &one->moved_weights);
        }
    }
    for (int64_t i = 0; i < num_candidates && !failed; i++)
        memcpy(turns + 18 * i, candidates[i].turns, sizeof candidates[i].turns);
    free(candidates);
    free(memory);
    return failed;
}

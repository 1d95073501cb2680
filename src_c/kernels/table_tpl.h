/* table_tpl.h: instantiates the algorithms on the vocabulary of the including file, and defines its table of kernels. */
#include <float.h>

#include "isa/vocabulary.h"

#include "kernels/philox_tpl.h"

#include "kernels/bits_tpl.h"

#include "kernels/rates_tpl.h"

#include "kernels/elementary_tpl.h"

#include "kernels/normal_tpl.h"

#define NAME(f) f##32
#define REAL float
#define SQRT sqrtf
#include "kernels/noise_tpl.h"

#define NAME(f) f##64
#define REAL double
#define SQRT sqrt
#include "kernels/noise_tpl.h"

#define NAME(f) f##32
#define REAL float
#include "kernels/rows_tpl.h"

#define NAME(f) f##64
#define REAL double
#include "kernels/rows_tpl.h"

#define NAME(f) f##32
#define IN float
#define OUT float
#include "kernels/terms_tpl.h"

#define NAME(f) f##32_64
#define IN float
#define OUT double
#include "kernels/terms_tpl.h"

#define NAME(f) f##64
#define IN double
#define OUT double
#include "kernels/terms_tpl.h"

#define NAME(f) f##32
#define REAL float
#include "kernels/draws_tpl.h"

#define NAME(f) f##64
#define REAL double
#include "kernels/draws_tpl.h"

#define NAME(f) f##32
#define REAL float
#define LARGEST FLT_MAX
#include "kernels/levels_tpl.h"

#define NAME(f) f##64
#define REAL double
#define LARGEST DBL_MAX
#include "kernels/levels_tpl.h"

#define NAME(f) f32_##f
#define COMPUTE(f) f32_##f
#define LANES_OF F32_LANES
#define UNROLL_STORED UNROLL_VALUES
#define STORED float
#define COMPUTED float
#include "kernels/apply_tpl.h"

#define NAME(f) f64_##f
#define COMPUTE(f) f64_##f
#define LANES_OF F64_LANES
#define UNROLL_STORED UNROLL_VALUES
#define STORED double
#define COMPUTED double
#include "kernels/apply_tpl.h"

#define NAME(f) f16_##f
#define COMPUTE(f) f32_##f
#define LANES_OF F32_LANES
#define UNROLL_STORED UNROLL_F16
#define STORED uint16_t
#define COMPUTED float
#include "kernels/apply_tpl.h"

#define NAME(f) bf16_##f
#define COMPUTE(f) BF16_COMPUTE(f)
#define LANES_OF BF16_LANES
#define UNROLL_STORED UNROLL_BF16
#define STORED uint16_t
#define COMPUTED float
#include "kernels/apply_tpl.h"

#define NAME(f) f32_##f
#define LANES_OF F32_LANES
#define COMPUTED float
#include "kernels/row_sums_tpl.h"

#define NAME(f) f64_##f
#define LANES_OF F64_LANES
#define COMPUTED double
#include "kernels/row_sums_tpl.h"

#define NAME(f) f32_##f
#define COMPUTE(f) f32_##f
#define SUMS(f) f32_##f
#define LANES_OF F32_LANES
#define STORED float
#define COMPUTED float
#include "kernels/quotients_tpl.h"

#define NAME(f) f64_##f
#define COMPUTE(f) f64_##f
#define SUMS(f) f64_##f
#define LANES_OF F64_LANES
#define STORED double
#define COMPUTED double
#include "kernels/quotients_tpl.h"

#define NAME(f) f16_##f
#define COMPUTE(f) f32_##f
#define SUMS(f) f32_##f
#define LANES_OF F32_LANES
#define STORED uint16_t
#define COMPUTED float
#include "kernels/quotients_tpl.h"

#define NAME(f) bf16_##f
#define COMPUTE(f) BF16_COMPUTE(f)
#define SUMS(f) f32_##f
#define LANES_OF BF16_LANES
#define STORED uint16_t
#define COMPUTED float
#include "kernels/quotients_tpl.h"

#define NAME(f) f32_##f
#define BITS uint32_t
#define SIGNED int32_t
#define INFINITE 0x7F800000u
#include "kernels/targets_tpl.h"

#define NAME(f) f64_##f
#define BITS uint64_t
#define SIGNED int64_t
#define INFINITE UINT64_C(0x7FF0000000000000)
#include "kernels/targets_tpl.h"

#define NAME(f) f16_##f
#define BITS uint16_t
#define SIGNED int16_t
#define INFINITE 0x7C00
#include "kernels/targets_tpl.h"

#define NAME(f) bf16_##f
#define BITS uint16_t
#define SIGNED int16_t
#define INFINITE 0x7F80
#include "kernels/targets_tpl.h"

static void fence(void) { v_fence(); }

/* A compiler that contracts expressions would contract this one. */
static double multiply_add(double a, double b, double c) { return a * b + c; }

#define FD_OPS_OF(type)                                                                                      \
  {type##_op_scale,         type##_op_bias,          type##_op_each,          type##_op_each_bias,           \
   type##_op_residual,      type##_op_bias_residual, type##_op_each_residual, type##_op_each_bias_residual, \
   type##_op_affine,        type##_op_select,        type##_op_signed,        type##_op_multiply,            \
   type##_op_add,           type##_op_stretch,       type##_op_divide,        type##_op_multiply_add}
#define FD_ALL_TYPES(name) {[FD_FLOAT32] = f32_##name, [FD_FLOAT64] = f64_##name, [FD_FLOAT16] = f16_##name, [FD_BFLOAT16] = bf16_##name}
#define FD_BOTH(name) {name##32, name##64}
#define FD_FUNCTION(name) {name##32_all, name##64_all}

const fd_isa FD_JOIN(fd_isa_, FD_ISA_NAME) = {
    .name = FD_TEXT(FD_ISA_NAME),
    .vector_bits = (int)sizeof(u64v) * 8,
    .blocks = blocks,
    .keep_bits = keep_bits,
    .keep_rates = keep_rates,
    .first_bad_rate = first_bad_rate,
    .factors = {[FD_FLOAT32] = factors32, [FD_FLOAT64] = factors64, [FD_FLOAT16] = factors32, [FD_BFLOAT16] = factors32},
    .apply = {[FD_FLOAT32] = FD_OPS_OF(f32),
              [FD_FLOAT64] = FD_OPS_OF(f64),
              [FD_FLOAT16] = FD_OPS_OF(f16),
              [FD_BFLOAT16] = FD_OPS_OF(bf16)},
    .uniforms = FD_BOTH(uniforms),
    .normals = FD_BOTH(normals),
    .functions = {[FD_EXP] = FD_FUNCTION(exp),
                  [FD_LOG] = FD_FUNCTION(log),
                  [FD_SIGMOID] = FD_FUNCTION(sigmoid),
                  [FD_LOGIT] = FD_FUNCTION(logit),
                  [FD_SOFTPLUS] = FD_FUNCTION(softplus),
                  [FD_MOLCHANOV] = {0, molchanov64_all},
                  [FD_MOLCHANOV_SLOPE] = {0, molchanov_slope64_all},
                  [FD_KINGMA] = {0, kingma64_all},
                  [FD_KINGMA_SLOPE] = {0, kingma_slope64_all}},
    .noise = {[FD_GAUSSIAN] = FD_BOTH(gaussian),
              [FD_ADDITIVE] = FD_BOTH(additive),
              [FD_SPREAD] = FD_BOTH(spread),
              [FD_SPREAD_SLOPE] = FD_BOTH(spread_slope),
              [FD_CONCRETE] = FD_BOTH(concrete),
              [FD_UNIFORM] = FD_BOTH(uniform),
              [FD_SCALED] = FD_BOTH(scaled)},
    .draw_factors = FD_BOTH(draw_factors),
    .excess = FD_BOTH(excess),
    .score_sum = FD_BOTH(score_sum),
    .shares = FD_BOTH(shares),
    .are_scores = FD_BOTH(are_scores),
    .copy_columns = FD_ALL_TYPES(copy_columns),
    .count_digits = FD_ALL_TYPES(count_digits),
    .spare_neighbours = FD_ALL_TYPES(spare_neighbours),
    .spare_larger = FD_ALL_TYPES(spare_larger),
    .spare_last = FD_ALL_TYPES(spare_last),
    .spare_few = FD_ALL_TYPES(spare_few),
    .products = FD_BOTH(products),
    .gate = FD_BOTH(gate),
    .gate_slopes = FD_BOTH(gate_slopes),
    .sum = FD_BOTH(sum),
    .row_sums = FD_BOTH(row_sums),
    .row_spread = FD_BOTH(row_spread),
    .row_products = FD_BOTH(row_products),
    .quotients = FD_ALL_TYPES(quotients),
    .row_add = FD_BOTH(row_add),
    .sum_terms = {sum_terms32, sum_terms32_64, sum_terms64},
    .sum_fours = {sum_fours32, sum_fours32_64, sum_fours64},
    .scale = {scale32, scale64},
    .scale_to_odd = scale_to_odd32,
    .widen = FD_ALL_TYPES(widen),
    .multiply_add = multiply_add,
    .fence = fence,
    .ahead = BYPASS_AHEAD,
};

"""What a compiled program costs, counted from its text, against counts by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from bench.hlo import Program

GPU = """HloModule jit_f, is_scheduled=true

%fused_gather (param_0: f32[4,100], param_1: s32[3,1]) -> f32[3,1,5] {
  %param_0 = f32[4,100]{1,0} parameter(0)
  %param_1 = s32[3,1]{1,0} parameter(1)
  ROOT %gather.1 = f32[3,1,5]{2,1,0} gather(%param_0, %param_1), slice_sizes={1,5}
}

%body (arg.1: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %arg.1 = (s32[], f32[8,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%arg.1), index=0
  %m = f32[8,8]{1,0} get-tuple-element(%arg.1), index=1
  %dot.1 = f32[8,8]{1,0} dot(%m, %m), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %tuple.1 = (s32[], f32[8,8]{1,0}) tuple(%i, %dot.1)
}

%condition (arg.2: (s32[], f32[8,8])) -> pred[] {
  %arg.2 = (s32[], f32[8,8]{1,0}) parameter(0)
  ROOT %true = pred[] constant(true)
}

ENTRY %main (x: bf16[2,3,5,5,5], k: bf16[4,3,3,3,3], t: f32[4,100], i: s32[3,1]) -> f32[8,8] {
  %x = bf16[2,3,5,5,5]{4,3,2,1,0} parameter(0)
  %k = bf16[4,3,3,3,3]{4,3,2,1,0} parameter(1)
  %t = f32[4,100]{1,0} parameter(2)
  %i = s32[3,1]{1,0} parameter(3)
  %cudnn-conv = (bf16[2,4,5,5,5]{4,3,2,1,0}, u8[16]{0}) custom-call(%x, %k), window={size=3x3x3 \
pad=1_1x1_1x1_1}, dim_labels=bf012_oi012->bf012, custom_call_target="__cudnn$convForward"
  %y = bf16[2,4,5,5,5]{4,3,2,1,0} get-tuple-element(%cudnn-conv), index=0
  %back = (bf16[2,3,5,5,5]{4,3,2,1,0}, u8[0]{0}) custom-call(%y, %k), window={size=3x3x3 \
rhs_dilate=2x1x1}, dim_labels=bf012_oi012->bf012, custom_call_target="__cudnn$convBackwardInput"
  %own = bf16[2,4,9,9,9]{4,3,2,1,0} convolution(%x, %k), window={size=3x3x3 pad=1_1x1_1x1_1 \
lhs_dilate=2x2x2}, dim_labels=bf012_oi012->bf012
  %taken = f32[3,1,5]{2,1,0} fusion(%t, %i), kind=kLoop, calls=%fused_gather
  %zero = s32[] constant(0)
  %m = f32[8,8]{1,0} constant({...})
  %tuple.2 = (s32[], f32[8,8]{1,0}) tuple(%zero, %m)
  %while.1 = (s32[], f32[8,8]{1,0}) while(%tuple.2), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"7"}}
  ROOT %result = f32[8,8]{1,0} get-tuple-element(%while.1), index=1
}
"""

TPU = """HloModule jit_f

ENTRY %main (x: bf16[8,128]) -> bf16[8,128] {
  %x = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %copy.1 = bf16[8,128]{0,1:T(8,128)(2,1)S(1)} copy(%x), backend_config={"window_config":\
{"estimated_cycles":"1200"}}
  ROOT %add.1 = bf16[8,128]{1,0:T(8,128)(2,1)} fusion(%copy.1), kind=kLoop, calls=%f, \
backend_config={"window_config":{"estimated_cycles":"34"}}
}
"""


def test_operations_are_those_of_products_and_convolutions_as_often_as_they_run():
    taps, places = 3 * 4 * 27, 2 * 5**3  # inputs x outputs x kernel; batch x grid
    forward = backward = 2 * places * taps
    dilated = 2 * 2 * 9**3 * taps / 8  # of the dilated input an eighth is not a zero
    assert Program(GPU).cost.flop == pytest.approx(forward + backward + dilated + 7 * 2 * 8**3)


def test_bytes_are_those_read_and_written_and_of_a_gather_what_it_takes():
    x, k, y, larger = (2 * n for n in (2 * 3 * 5**3, 4 * 3 * 27, 2 * 4 * 5**3, 2 * 4 * 9**3))
    convolutions = (x + k + y + 16) + (y + k + x) + (x + k + larger)
    gather = 4 * (15 + 3 + 15)
    assert Program(GPU).cost.moved == convolutions + gather + 7 * 3 * 4 * 64


def test_updates_in_place_move_the_change_alone():
    text = """
%update (p0: f32[100,9], p1: f32[1,9], p2: s32[]) -> f32[100,9] {
  %p0 = f32[100,9]{1,0} parameter(0)
  %p1 = f32[1,9]{1,0} parameter(1)
  %p2 = s32[] parameter(2)
  ROOT %dus = f32[100,9]{1,0} dynamic-update-slice(%p0, %p1, %p2, %p2)
}

ENTRY %main (a: f32[100,9], b: f32[1,9], i: s32[]) -> f32[100,9] {
  %a = f32[100,9]{1,0} parameter(0)
  %b = f32[1,9]{1,0} parameter(1)
  %i = s32[] parameter(2)
  ROOT %f = f32[100,9]{1,0} fusion(%a, %b, %i), kind=kLoop, calls=%update
}
"""
    assert Program(text).cost.moved == 4 * (9 + 1) + 4 * 9


def test_a_tpus_bytes_are_whole_tiles_of_what_does_not_lie_on_the_chip():
    text = """
%body (arg: (s32[], bf16[4,9,20])) -> (s32[], bf16[4,9,20]) {
  %arg = (s32[]{:T(128)}, bf16[4,9,20]{1,2,0:T(8,128)(2,1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %m = bf16[4,9,20]{1,2,0:T(8,128)(2,1)} get-tuple-element(%arg), index=1
  %here = bf16[4,9,20]{1,2,0:T(8,128)(2,1)S(1)} negate(%m)
  %there = bf16[4,9,20]{1,2,0:T(8,128)(2,1)} negate(%here)
  ROOT %next = (s32[]{:T(128)}, bf16[4,9,20]{1,2,0:T(8,128)(2,1)}) tuple(%i, %there)
}

%condition (arg.1: (s32[], bf16[4,9,20])) -> pred[] {
  %arg.1 = (s32[]{:T(128)}, bf16[4,9,20]{1,2,0:T(8,128)(2,1)}) parameter(0)
  %limit = s32[]{:T(128)} constant(5)
  %i.1 = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i.1, %limit), direction=LT
}

ENTRY %main (x: bf16[4,9,20], k: f32[3,8,128]) -> bf16[4,9,20] {
  %x = bf16[4,9,20]{1,2,0:T(8,128)(2,1)} parameter(0)
  %k = f32[3,8,128]{2,1,0:T(8,128)} parameter(1)
  %start = ((f32[3,8,128]{2,1,0:T(8,128)}), f32[1,8,128]{2,1,0:T(8,128)S(1)}, s32[]{:S(2)}) \
slice-start(%k), slice={[0:1], [0:8], [0:128]}
  %done = f32[1,8,128]{2,1,0:T(8,128)S(1)} slice-done(%start)
  %buffer = bf16[4,9,20]{1,2,0:T(8,128)(2,1)} custom-call(), custom_call_target="AllocateBuffer"
  %zero = s32[]{:T(128)} constant(0)
  %first = (s32[]{:T(128)}, bf16[4,9,20]{1,2,0:T(8,128)(2,1)}) tuple(%zero, %x)
  %loop = (s32[]{:T(128)}, bf16[4,9,20]{1,2,0:T(8,128)(2,1)}) while(%first), \
condition=%condition, body=%body
  ROOT %result = bf16[4,9,20]{1,2,0:T(8,128)(2,1)} get-tuple-element(%loop), index=1
}
"""
    prefetched = 4 * 8 * 128  # read; it is written to the chip
    tiles = 2 * 4 * 24 * 128  # the 9 along the lanes, the 20 along 24 rows
    assert Program(text).cost.moved == prefetched + 5 * (tiles + tiles)  # read once, written once


def test_a_convolution_escapes_without_cudnn_or_by_a_dilated_kernel():
    assert Program(GPU).escaped_convolutions() == ["back", "own"]


def test_operations_within_fusions_are_found_too():
    counts = Program(GPU).counts
    assert (counts["gather"], counts["dot"], counts["copy"]) == (1, 1, 0)


def test_the_compilers_cycles_are_added_up():
    program = Program(TPU)
    assert program.cost.cycles == 1234
    assert program.counts["copy"] == 1


def test_a_text_without_an_entry_is_refused():
    with pytest.raises(ValueError, match="no entry"):
        Program("HloModule jit_f")


def test_the_count_is_the_compilers():
    def function(x: jax.Array, kernel: jax.Array, matrix: jax.Array) -> jax.Array:
        layout = ("NHWDC", "HWDIO", "NHWDC")
        y = lax.conv_general_dilated(x, kernel, (1, 1, 1), "VALID", dimension_numbers=layout)
        return y @ matrix

    shapes = ((2, 9, 9, 9, 3), (3, 3, 3, 3, 8), (8, 5))
    compiled = jax.jit(function).lower(*map(jnp.zeros, shapes)).compile()
    program = Program(compiled.as_text() or "")
    assert program.cost.flop == pytest.approx(compiled.cost_analysis()["flops"], rel=1e-3)

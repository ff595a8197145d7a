"""Counts of compiled programs, by a program whose text is known."""

import importlib.util
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts" / "benchmarks"

TEXT = """HloModule m, is_scheduled=true

%inside (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %n = f32[4]{0} negate(%p)
}

%body (q: (s32[], f32[4])) -> (s32[], f32[4]) {
  %q = (s32[], f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%q), index=0
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  %x = f32[4]{0} get-tuple-element(%q), index=1
  %f = f32[4]{0} fusion(%x), kind=kLoop, calls=%inside
  %c = f32[4]{0} copy(%f)
  ROOT %r = (s32[], f32[4]{0}) tuple(%next, %c)
}

%cond (s: (s32[], f32[4])) -> pred[] {
  %s = (s32[], f32[4]{0}) parameter(0)
  %j = s32[] get-tuple-element(%s), index=0
  %ten = s32[] constant(10)
  ROOT %less = pred[] compare(%j, %ten), direction=LT
}

ENTRY %main (a: f32[4], z: s32[]) -> f32[4] {
  %a = f32[4]{0} parameter(0)
  %z = s32[] parameter(1)
  %sum = f32[4]{0} all-reduce(%a), replica_groups={}, to_apply=%inside
  %g = f32[512,1024]{1,0} gather(%a, %z), offset_dims={0}
  %t = (s32[], f32[4]{0}) tuple(%z, %sum)
  %w = (s32[], f32[4]{0}) while(%t), condition=%cond, body=%body
  ROOT %out = f32[4]{0} get-tuple-element(%w), index=1
}
"""


def facts():
    spec = importlib.util.spec_from_file_location("compiled", SCRIPTS / "compiled.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.facts(TEXT)


def test_kernels_copies_gathers_and_collectives_are_counted():
    found = facts()
    assert found["kernels"] == 2  # the sum and the gather; not the loop
    assert found["loop_kernels"] == 2  # the fusion and the copy; not the counter
    assert found["loop_copies"] == [16]
    assert found["copies"] == 1
    assert found["gathers"] == found["large_gathers_scatters"] == 1
    assert found["collectives"] == {"all-reduce": {"count": 1, "bytes": 16}}
    assert found["operand_bytes"] == 16 + 16 + 512 * 1024 * 4 + 16 + 4

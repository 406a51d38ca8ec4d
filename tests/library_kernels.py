"""The compiled kernels of spconv and torchsparse in plain torch and NumPy, so that the libraries' Python runs on a CPU.

Written from what the libraries' callers pass and use; slow on purpose, and strict where the real kernels would read or
write out of bounds. Tiles and masks count: a cell whose bit is missing from its tile's mask is skipped, as on a GPU.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import itertools
import re
import sys
import types
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

TILE = 32
"""Rows that spconv's emulated kernels take at once."""


def check_int32(*tensors: Tensor) -> None:
    for tensor in tensors:
        assert tensor.dtype == torch.int32, tensor.dtype
        assert tensor.is_contiguous()


def check_floats(*tensors: Tensor) -> None:
    for tensor in tensors:
        assert tensor.dtype in (torch.float32, torch.float16), tensor.dtype
        assert tensor.is_contiguous()


# --- spconv: ops.implicit_gemm and ops.implicit_gemm_backward --------------------------------------------------------


def _spconv_gemm(rows: Tensor, matrices: Tensor, pairs: Tensor, mask: Tensor, order: Tensor, count: int):
    """Sum over cells of rows[pairs] @ matrices (K, C, D), tile by tile in the order of the masks."""
    check_int32(pairs, mask, order)
    cells = pairs.shape[0]
    assert matrices.shape[0] == cells <= 32
    assert pairs.shape == (cells, count)
    assert mask.shape == (count, 1)
    assert sorted(order.tolist()) == list(range(count))
    out, tile_masks = rows.new_zeros(count, matrices.shape[2]), []
    for start in range(0, count, TILE):
        targets = order[start : start + TILE].long()
        bits = 0
        for value in mask[start : start + TILE, 0].tolist():
            bits |= value & 0xFFFFFFFF
        tile_masks.append(bits - (1 << 32) if bits >= 1 << 31 else bits)
        for k in range(cells):
            if bits >> k & 1:
                source = pairs[k, targets]
                hit = source >= 0
                out[targets[hit]] += rows[source[hit].long()] @ matrices[k]
    return out, torch.tensor(tile_masks, dtype=torch.int32).reshape(1, -1, 1)


def spconv_implicit_gemm(
    features,
    filters,
    pair_fwd,
    pair_mask_fwd_splits,
    mask_argsort_fwd_splits,
    num_activate_out,
    masks,
    is_train,
    is_subm,
):
    check_floats(features, filters)
    assert [mask.dtype for mask in masks] == [np.uint32]
    assert masks[0].tolist() == [0xFFFFFFFF]
    (mask,), (order,) = pair_mask_fwd_splits, mask_argsort_fwd_splits
    matrices = filters.reshape(len(filters), -1, filters.shape[-1]).permute(1, 2, 0)
    out, tile_masks = _spconv_gemm(features, matrices, pair_fwd, mask, order, num_activate_out)
    return out, tile_masks if is_train else None, TILE


def spconv_implicit_gemm_backward(
    features,
    filters,
    out_bp,
    pair_fwd,
    pair_bwd,
    pair_mask_fwd_splits,
    pair_mask_bwd_splits,
    mask_argsort_fwd_splits,
    mask_argsort_bwd_splits,
    mask_output_fwd,
    masks,
    mask_width,
    is_subm,
):
    assert mask_output_fwd is not None, "the forward pass was not one of training"
    assert mask_width == TILE
    assert not is_subm  # a submanifold layer reverses the forward masks instead of having some of its own
    (mask,), (order,) = pair_mask_bwd_splits, mask_argsort_bwd_splits
    matrices = filters.reshape(len(filters), -1, filters.shape[-1]).permute(1, 0, 2)
    grad_features, _ = _spconv_gemm(out_bp, matrices, pair_bwd, mask, order, len(features))
    grad_filters = torch.zeros_like(matrices)  # (K, out, in)
    for tile, bits in enumerate(mask_output_fwd.flatten().tolist()):
        targets = mask_argsort_fwd_splits[0][tile * TILE : (tile + 1) * TILE].long()
        for k in range(len(matrices)):
            if bits >> k & 1:
                source = pair_fwd[k, targets]
                hit = source >= 0
                grad_filters[k] += out_bp[targets[hit]].t() @ features[source[hit].long()]
    return grad_features, grad_filters.permute(1, 0, 2).reshape(filters.shape).contiguous()


# --- torchsparse: the compiled module `torchsparse.backend` -----------------------------------------------------------

PADDING = 128
"""Rows of the tables come in multiples of this."""


class Torchsparse:
    """What torchsparse 2.1's Python calls. `precisions` lists what each kernel was asked to compute in."""

    def __init__(self) -> None:
        self.precisions: list[bool] = []

    # Maps. A table has a row per output and a column per kernel cell; -1 where there is no input.

    class GPUHashTable:
        """The library hands the storage in and keeps it in a cache, so the cells live with the tensor of keys."""

        def __init__(self, keys: Tensor, values: Tensor) -> None:
            assert len(keys) == len(values)
            if not hasattr(keys, "cells"):
                keys.cells = {}
            self.cells = keys.cells

    @staticmethod
    def _flat(cell, low, high) -> int:
        """Row-major number in the box from low to high; no box, no number: the real table would read elsewhere."""
        flat = 0
        for value, first, last in zip(cell, low, high):
            assert first <= value <= last, f"cell {cell} lies outside {low} to {high}"
            flat = flat * (last - first + 1) + value - first
        return flat

    @staticmethod
    def _offsets(kernel, first) -> list[tuple[int, int, int]]:
        """Cells of the kernel in the library's order: x fastest for an odd number of cells, z fastest for an even."""
        ranges = [range(-f, k - f) for k, f in zip(kernel, first)]
        if kernel[0] * kernel[1] * kernel[2] % 2:
            return [(x, y, z) for z, y, x in itertools.product(*reversed(ranges))]
        return list(itertools.product(*ranges))

    def build_kernel_map_subm_hashmap(self, table, coords, low, high, kernel, stride, padding, to_insert):
        check_int32(coords, low, high, kernel, stride, padding)
        low, high, kernel = low.tolist(), high.tolist(), kernel.tolist()
        cells = [tuple(cell) for cell in coords.tolist()]
        if to_insert:
            table.cells.update({self._flat(cell, low, high): row for row, cell in enumerate(cells)})
        offsets = self._offsets(kernel, [(k - 1) // 2 for k in kernel])
        out = torch.full((-(-len(cells) // PADDING) * PADDING, len(offsets)), -1, dtype=torch.int32)
        for row, (b, *cell) in enumerate(cells):
            for k, offset in enumerate(offsets):
                other = [v + d for v, d in zip(cell, offset)]
                if all(a <= v <= z for a, v, z in zip(low[1:], other, high[1:])):
                    out[row, k] = table.cells.get(self._flat([b, *other], low, high), -1)
        return [out]

    def build_kernel_map_downsample_hashmap(self, table, coords, low, high, kernel, stride, padding, to_insert):
        """Outputs are the cells whose kernel, from `stride * cell - padding` up, meets an input; all inside the box."""
        check_int32(coords, low, high, kernel, stride, padding)
        low, high, kernel, stride, padding = (t.tolist() for t in (low, high, kernel, stride, padding))
        found: dict[tuple, dict[int, int]] = {}
        offsets = self._offsets(kernel, (0, 0, 0))
        for row, (b, *cell) in enumerate(coords.tolist()):
            for k, offset in enumerate(offsets):
                start = [v + p - d for v, p, d in zip(cell, padding, offset)]
                if any(v % s for v, s in zip(start, stride)):
                    continue
                target = [v // s for v, s in zip(start, stride)]
                if all(a <= v <= z for a, v, z in zip(low[1:], target, high[1:])):
                    found.setdefault((b, *target), {})[k] = row
        targets = sorted(found, key=lambda cell: self._flat(cell, low, high))
        out = torch.full((-(-len(targets) // PADDING) * PADDING, len(offsets)), -1, dtype=torch.int32)
        for row, target in enumerate(targets):
            for k, source in found[target].items():
                out[row, k] = source
        return [out, torch.tensor(targets, dtype=torch.int32).reshape(-1, 4)]

    def convert_transposed_out_in_map(self, out_in_map, transposed):
        check_int32(out_in_map, transposed)
        for row, k in (out_in_map >= 0).nonzero().tolist():
            transposed[out_in_map[row, k], k] = row

    def derive_bitmask_from_out_in_map(self, out_in_map, parts, valid):
        check_int32(out_in_map)
        cells = out_in_map.shape[1]
        length = -(-cells // parts)
        mask = torch.full((parts, len(out_in_map)), -1, dtype=torch.int32)
        for part in range(parts):
            hit = out_in_map[:valid, part * length : (part + 1) * length] >= 0
            assert hit.shape[1] < 32
            mask[part, :valid] = (hit * (1 << torch.arange(hit.shape[1]))).sum(1).int()
        return mask

    def reorder_out_in_map_cuda(self, out_in_map, reorder_loc):
        check_int32(out_in_map, reorder_loc)
        length = -(-out_in_map.shape[1] // len(reorder_loc))
        columns = [out_in_map[loc.long(), p * length : (p + 1) * length] for p, loc in enumerate(reorder_loc)]
        return torch.cat(columns, 1).contiguous()

    def reduce_bitmask_cuda(self, mask, tile):
        check_int32(mask)
        assert tile % 4 == 0
        reduced = torch.zeros(len(mask), -(-mask.shape[1] // tile), dtype=torch.int32)
        for part, t in itertools.product(*map(range, reduced.shape)):
            for value in mask[part, t * tile : (t + 1) * tile]:
                reduced[part, t] |= value
        return reduced

    # Products.

    def conv_forward_implicit_gemm_cuda(self, rows, kernel, out_in_map, count, columns, allow_tf32, allow_fp16):
        check_floats(rows, kernel)
        check_int32(out_in_map)
        assert len(out_in_map) % PADDING == 0
        assert len(out_in_map) >= count
        assert kernel.shape[2] == columns
        self.precisions.append(allow_tf32)
        out = rows.new_zeros(count, columns)
        for k, matrix in enumerate(kernel):
            source = out_in_map[:count, k].long()
            hit = source >= 0
            out[hit] += rows[source[hit]] @ matrix
        return out

    def conv_forward_implicit_gemm_sorted_cuda(
        self, rows, kernel, reordered, reduced, order, count, columns, allow_tf32, allow_fp16
    ):
        check_floats(rows, kernel)
        self.precisions.append(allow_tf32)
        out = rows.new_zeros(count, columns)
        for k, targets, source in self._tiles(reordered, reduced, order, 128):
            keep = targets < count
            out[targets[keep]] += rows[source[keep]] @ kernel[k]
        return out

    def conv_backward_wgrad_implicit_gemm_sorted_cuda(
        self, rows, other, reordered, reduced, order, split_k, allow_tf32, allow_fp16
    ):
        check_floats(rows, other)
        self.precisions.append(allow_tf32)
        out = rows.new_zeros(reordered.shape[1], rows.shape[1], other.shape[1])
        for k, targets, source in self._tiles(reordered, reduced, order, 64):
            out[k] += rows[source].t() @ other[targets]
        return out.reshape(-1, other.shape[1])

    @staticmethod
    def _tiles(reordered, reduced, order, tile):
        """(kernel cell, rows of the output, rows of the input) for each tile and cell that the masks do not skip."""
        check_int32(reordered, reduced, order)
        assert len(reordered) % PADDING == 0
        length = -(-reordered.shape[1] // len(order))
        for start, k in itertools.product(range(0, len(reordered), tile), range(reordered.shape[1])):
            part, bit = divmod(k, length)
            if reduced[part, start // tile] >> bit & 1:
                source = reordered[start : start + tile, k].long()
                hit = source >= 0
                yield k, order[part, start : start + tile].long()[hit], source[hit]


class _PretendCuda(importlib.machinery.SourceFileLoader):
    """Loads a file of the library with its questions for the device answered as on a GPU."""

    def get_data(self, path: str) -> bytes:
        data = super().get_data(path)
        if path.endswith(".py"):
            data = re.sub(rb'\w+\.device\.type == "cuda"', b"True", data)
            data = re.sub(rb'\w+\.device\.type != "cuda"', b"False", data)
        return data


class _Finder:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: object = None, target: object = None):
        if name.split(".")[0] != "torchsparse":
            return None
        place = self.folder.joinpath(*name.split("."))
        package = place.is_dir()
        file = place / "__init__.py" if package else place.with_suffix(".py")
        if not file.is_file():
            return None
        loader = _PretendCuda(name, str(file))
        folders = [str(place)] if package else None
        return importlib.util.spec_from_file_location(name, file, loader=loader, submodule_search_locations=folders)


def import_torchsparse(folder: Path, monkeypatch) -> tuple[types.ModuleType, Torchsparse]:
    """torchsparse's own Python from a checkout, with the kernels above in place of its compiled module.

    Args:
        folder: The checkout: the parent of the package `torchsparse`.
        monkeypatch: Undoes the import at the end of the test.
    """
    kernels = Torchsparse()
    compiled = types.ModuleType("torchsparse.backend")
    for name in dir(kernels):
        if not name.startswith("_"):
            setattr(compiled, name, getattr(kernels, name))
    for name in [name for name in sys.modules if name.split(".")[0] == "torchsparse"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "meta_path", [_Finder(folder), *sys.meta_path])
    monkeypatch.setitem(sys.modules, "torchsparse.backend", compiled)
    # The library asks for it when it is imported: 8.0 has TF32.
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0))
    library = importlib.import_module("torchsparse")
    library.backend = compiled
    return library, kernels

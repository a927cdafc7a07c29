"""PyTorch modules in memory: exported, converted and compared; the module stays as it was."""

from __future__ import annotations

import copy
import io
from typing import Any, BinaryIO

import jax
import numpy as np
import pytest
import torch
from helpers.programs import save_program
from monai.networks.nets import UNet
from torch import nn

from jaxsal.checkpoints import load_model, save_model
from jaxsal.errors import InputError
from jaxsal.graph.config import GraphConfig
from jaxsal.graph.program import Graph
from jaxsal.model import Model
from jaxsal_converters import from_torch
from jaxsal_converters.modules import model_from_module
from jaxsal_converters.program_file import read_program
from jaxsal_converters.program_model import Wanted, model_of

pytestmark = pytest.mark.usefixtures("xla_convolutions")


class Small(nn.Module):
    """Two convolutions at two resolutions, dropout, batch norm."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.down = nn.Conv3d(2, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm3d(4) if norm else nn.Identity()
        self.dropout = nn.Dropout(0.5)
        self.up = nn.ConvTranspose3d(4, 3, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.dropout(torch.relu(self.norm(self.down(x)))))


class Flattened(Small):
    """Gives the right logits for single images only: its view has one example."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return (y.reshape(1, -1) - y.mean()).reshape(1, *y.shape[1:])


class Mixing(Small):
    """Subtracts the mean of the whole batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y - y.mean()


def graph_of(model: Model) -> Graph:
    assert isinstance(model.config, GraphConfig)
    return model.config.graph


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randn(1, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def small(image: torch.Tensor) -> Model:
    torch.manual_seed(0)
    return from_torch(Small(), image, channels=("flair", "t1"), threshold=0.3, target=2)


def test_a_module_becomes_a_model(small: Model) -> None:
    assert small.channels == ("flair", "t1")
    assert small.threshold == 0.3
    assert small.lesion_output() == 2
    assert small.config.fixed_size == (8, 8, 8)
    assert small.roi == (8, 8, 8)
    assert graph_of(small).batch == "any"
    assert {"down", "norm", "up"} <= set(small.layers)


def test_statistics_do_not_count_as_learnt(small: Model) -> None:
    assert small.parameter_count == 2 * 4 * 27 + 4 + 2 * 4 + 4 * 3 * 8 + 3


def test_the_module_is_left_as_it_was(image: torch.Tensor) -> None:
    module = Small().train()
    module.norm.eval()
    before = copy.deepcopy(module.state_dict())
    from_torch(module, image, verify=False)
    assert module.training
    assert module.dropout.training
    assert not module.norm.training
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_saved_model_is_the_same(small: Model, tmp_path: Any, image: torch.Tensor) -> None:
    save_model(small, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.config == small.config
    batch = image.movedim(1, -1).numpy()
    np.testing.assert_array_equal(loaded(batch), small(batch))


@pytest.mark.parametrize("build", [Flattened, Mixing])
def test_what_mixes_examples_takes_them_one_at_a_time(
    build: type[nn.Module], image: torch.Tensor
) -> None:
    torch.manual_seed(0)
    module = build().eval()
    model = from_torch(module, image, verify=False)
    assert graph_of(model).batch == "one"
    batch = torch.cat([image, 2 * image])
    expected = torch.cat([module(image), module(2 * image)]).movedim(1, -1).detach()
    found = model(batch.movedim(1, -1).numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_free_sizes_have_their_divisor(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    module = Small().eval()
    model = from_torch(module, image, dynamic=True)
    assert model.divisor == (2, 2, 2)
    assert model.config.fixed_size == (None, None, None)
    assert model.roi is None
    other = torch.randn(1, 2, 4, 6, 10)
    expected = module(other).movedim(1, -1).detach()
    np.testing.assert_allclose(model(other.movedim(1, -1).numpy()), expected, atol=1e-5)


def test_both_ways_to_convert_a_unet_agree(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    network = UNet(3, 2, 2, channels=(3, 4), strides=(2,), norm="batch").eval()
    native, exported = model_from_module(network), from_torch(network, image)
    batch = image.movedim(1, -1).numpy()
    np.testing.assert_allclose(exported(batch), native(batch), atol=1e-5)
    assert exported.receptive_field == native.receptive_field
    assert exported.parameter_count == native.parameter_count


@pytest.mark.thorough
def test_data_parallel_networks_are_taken_out_of_it(image: torch.Tensor) -> None:
    model = from_torch(nn.DataParallel(Small()), image, verify=False)
    assert "down" in model.layers


class Twice(nn.Module):
    """Holds its layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(2, 2, 1)
        self.kept = nn.ModuleList([self.first])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.kept[0](x) + 1


def test_a_module_that_is_held_twice_has_both_names(image: torch.Tensor) -> None:
    model = from_torch(Twice(), image, verify=False)
    assert model.resolve_layer("first") == model.resolve_layer("kept.0")


def test_a_softmax_at_the_end_is_jaxsals(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(Small(), nn.Softmax(1)).eval()
    model = from_torch(module, image)
    found = jax.nn.softmax(model(image.movedim(1, -1).numpy()))
    np.testing.assert_allclose(found, module(image).movedim(1, -1).detach(), atol=1e-5)


class Unsteady(nn.Module):
    """Computes something else at each call."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


def test_logits_that_differ_from_the_conversions_are_noticed(image: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"logits differ .* does not compute the same each time"):
        from_torch(Unsteady(), image)


@pytest.mark.parametrize(
    ("example", "reason"),
    [(torch.randn(2, 8, 8), r"\(2, 8, 8\)"), (np.zeros((1, 2, 8, 8, 8)), "ndarray")],
    ids=["rank", "array"],
)
def test_the_example_is_an_image(example: Any, reason: str) -> None:
    with pytest.raises(InputError, match=rf"one tensor \(B, C, X, Y, Z\).*{reason}"):
        from_torch(Small(), example)


class Branching(nn.Module):
    """Decides by the numbers of its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x


def test_what_torch_cannot_export_is_said(image: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"torch\.export cannot export the Branching: "):
        from_torch(Branching(), image)


def test_sizes_that_cannot_be_free_are_said(image: torch.Tensor) -> None:
    fixed = nn.Sequential(Small(), nn.LayerNorm((8, 8, 8)))
    with pytest.raises(InputError, match="leave dynamic out"):
        from_torch(fixed, image, dynamic=True)


def test_slices_of_a_volume_follow_an_axis(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    flat = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.Tanh()).eval()
    model = from_torch(flat, image[:, :, 0], axis="x")
    assert model.config.fixed_size == (1, 8, 8)
    expected = flat(image[:, :, 0]).movedim(1, -1).detach()
    np.testing.assert_allclose(
        model(image[:, :, :1].movedim(1, -1).numpy())[:, 0], expected, atol=1e-5
    )


def exported_for_two(module: nn.Module) -> BinaryIO:
    return save_program(module, io.BytesIO(), torch.randn(2, 2, 8, 8, 8))


def test_a_program_of_several_images_takes_one() -> None:
    """Where it computes each of them by itself."""
    model, _ = model_of(read_program(exported_for_two(Small(norm=False))), Wanted(), {})
    assert graph_of(model).batch == "any"


def test_programs_of_several_images_that_mix_are_refused() -> None:
    content = exported_for_two(Mixing(norm=False))
    with pytest.raises(InputError, match=r"batch of 2 images.*export it with one image"):
        model_of(read_program(content), Wanted(), {})

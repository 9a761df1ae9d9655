"""Transformer and mixer flows: shapes, and that fixed norms are affine maps in front of linear layers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from recipe.autoencoder import LATENT, Autoencoder, AutoencoderConfig, measure
from recipe.latent import LatentGenerator
from recipe.norm import FixedNorm, norms, recalibrate
from recipe.transformer import LATENT_STUDENT, VITS, MixerFlow, TransformerFlow

INPUTS = (torch.zeros(3), torch.arange(3))


@pytest.mark.parametrize("name", VITS)
def test_velocities_have_the_shape_of_the_noise(name: str) -> None:
    z = torch.randn(3, 1, 28, 28)
    model = TransformerFlow(replace(VITS[name], blocks=1))
    assert model(z, *INPUTS).shape == z.shape
    behind = model.blocks[0].mlp_out
    assert isinstance(behind, FixedNorm) == (VITS[name].placement == "peri")


def fold_forward(norm: FixedNorm, layers: list[nn.Linear | nn.Conv2d]) -> None:
    """W' = W diag(a), b' = b + W d for every layer that reads the norm."""
    scale, shift = norm.affine()
    for layer in layers:
        weight = layer.weight.flatten(1)
        layer.bias.add_(weight @ shift)
        layer.weight.copy_((weight * scale).view_as(layer.weight))


@torch.no_grad()
def shaken(model: nn.Module, *inputs: torch.Tensor) -> nn.Module:
    model.head.weight.normal_(std=0.1)
    for norm in norms(model):
        norm.gamma.uniform_(0.5, 1.5)
        norm.beta.normal_()
    recalibrate(model.eval(), *inputs)
    return model


@torch.no_grad()
def test_every_norm_of_the_transformer_folds() -> None:
    torch.manual_seed(0)
    inputs = (torch.randn(3, 1, 28, 28), *INPUTS)
    model = shaken(TransformerFlow(replace(VITS["fashion-vit"], blocks=2)), *inputs)
    want = model(*inputs)
    for block in model.blocks:
        a = block.attention
        fold_forward(block.attention_in, [a.query, a.key, a.value])
        fold_forward(block.mlp_in, [block.first])
        block.attention_in = block.mlp_in = nn.Identity()
    fold_forward(model.norm, [model.head])
    model.norm = nn.Identity()
    assert not norms(model)
    assert torch.allclose(model(*inputs), want, atol=1e-4)


@torch.no_grad()
def test_every_norm_of_the_mixer_folds() -> None:
    torch.manual_seed(0)
    inputs = (torch.randn(3, 4, 7, 7), *INPUTS)
    model = shaken(MixerFlow(replace(LATENT_STUDENT, blocks=2)), *inputs)
    want = model(*inputs)
    for block in model.blocks:
        fold_forward(block.mix_in, [block.value])
        fold_forward(block.mlp_in, [block.first])
        block.mix_in = block.mlp_in = nn.Identity()
    fold_forward(model.norm, [model.head])
    model.norm = nn.Identity()
    assert not norms(model)
    assert torch.allclose(model(*inputs), want, atol=1e-4)


@torch.no_grad()
def test_the_generator_is_the_decoded_step_in_unit_range() -> None:
    torch.manual_seed(0)
    flow, coder = MixerFlow(replace(LATENT_STUDENT, blocks=1)).eval(), Autoencoder(AutoencoderConfig()).eval()
    z = torch.randn(3, *LATENT)
    want = 0.5 * coder.decoder(z + flow(z, *INPUTS)) + 0.5
    assert torch.allclose(LatentGenerator(flow, coder.decoder)(z, *INPUTS), want, atol=1e-5)


def test_latents_have_mean_zero_and_deviation_one() -> None:
    images = torch.rand(200, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model = Autoencoder(AutoencoderConfig()).eval()
    measure(model, images)
    latents = model.encode(images)
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-3)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(4), atol=1e-3)

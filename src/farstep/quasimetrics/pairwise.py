"""MRN between all pairs of two sets of latents."""

from __future__ import annotations

from jaxtyping import Array, Float

from farstep.quasimetrics.mrn import mrn


def pairwise_mrn(
    x: Float[Array, "*ensemble rows latent"],
    y: Float[Array, "*ensemble columns latent"],
    groups: int = 8,
) -> Float[Array, "*ensemble rows columns"]:
    """`mrn` from every row `x_i` to every row `y_j`: `(E, B, D), (E, C, D) -> (E, B, C)`.

    Raises `ValueError` where the shapes do not match or the latent axis does not divide into
    groups of even size.
    """
    if x.ndim < 2 or x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-1]:
        raise ValueError(
            "Pairs need (*ensemble, rows, latent) and (*ensemble, columns, latent) "
            f"that differ in their rows alone: {x.shape}, {y.shape}."
        )
    return mrn(x[..., :, None, :], y[..., None, :, :], groups)

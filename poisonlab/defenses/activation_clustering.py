"""Activation clustering: a class that falls into two heaps, one of them small, holds two kinds of images."""

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_samples
from torch import Tensor

from poisonlab.context import Context
from poisonlab.defenses.base import Defense
from poisonlab.defenses.shared.sample_scores import judged_classes, sample_verdict
from poisonlab.models.base import Classifier, extract
from poisonlab.registry import Card, defense
from poisonlab.spec.citation import Reference
from poisonlab.spec.config import Config, param
from poisonlab.types import Detection, ImageSet

ART = "Adversarial Robustness Toolbox"
RESTARTS = 10  # of k-means; the best is kept


class ClusteringConfig(Config):
    dimensions: int = param(10, "Features are reduced to this many", ge=1, le=512, source="the paper")
    reduction: Literal["ica", "pca"] = param(
        "ica", "How: independent or principal components", source="the paper; BackdoorBench takes pca"
    )
    silhouette: float = param(
        0.1,
        "A class whose two clusters have no larger mean silhouette counts as one heap",
        quick=0.15,
        ge=-1,
        le=1,
        source=f"the paper: 0.10 to 0.15; {ART}",
    )
    largest: float = param(
        0.35, "A cluster is flagged if it is at most this share of its class", gt=0, le=0.5, source=ART
    )


@dataclass(frozen=True)
class Split:
    """Two clusters of a class.

    Attributes:
        minority: bool ``(n,)``, the images in the smaller cluster.
        silhouettes: float ``(n,)`` in [-1, 1], how well each image fits its own cluster.
    """

    minority: Tensor
    silhouettes: Tensor

    @property
    def toward_minority(self) -> Tensor:
        """The silhouettes, those of the larger cluster with a minus."""
        return torch.where(self.minority, self.silhouettes, -self.silhouettes)


def reduced(features: Tensor, config: ClusteringConfig, seed: int) -> Tensor:
    """``(n, d)`` -> float64 ``(n, k)`` on the CPU; k is smaller than asked for where n or the rank are; may be 0."""
    centered = features.double().cpu() - features.double().cpu().mean(0)
    u, s, _ = torch.linalg.svd(centered, full_matrices=False)
    rank = int((s > 1e-6 * s[0].clamp_min(1e-12)).sum())
    kept = min(config.dimensions, rank, len(features) - 1)
    components: Tensor = u[:, :kept] * s[:kept]
    if config.reduction == "pca" or kept == 0:
        return components
    with warnings.catch_warnings():  # what it has after all its steps is good enough to cluster
        warnings.simplefilter("ignore", ConvergenceWarning)
        return torch.from_numpy(
            FastICA(whiten="unit-variance", random_state=seed).fit_transform(components.numpy())
        )


def split_in_two(points: Tensor, seed: int) -> Split | None:
    """The best 2-means clustering of ``(n, k)``; ``None`` of points that all coincide."""
    if points.shape[1] == 0:
        return None
    x = points.numpy()
    labels = torch.from_numpy(KMeans(2, n_init=RESTARTS, random_state=seed).fit_predict(x)).long()
    minority = labels == torch.bincount(labels, minlength=2).argmin()
    return Split(minority, torch.from_numpy(silhouette_samples(x, minority.numpy())).float())


@defense("activation_clustering")
class ActivationClustering(Defense):
    """Chen et al., SafeAI 2019, arXiv:1811.03728, Algorithm 1, for each class:

    1. the last hidden activations of its images, reduced to 10 independent components;
    2. k-means with k = 2;
    3. the smaller cluster is poisoned if it is small and the silhouette says that there are two.
    """

    Config = ClusteringConfig
    needs_clean_images = False
    filters = True
    card = Card(
        title="Activation clustering",
        references=(
            Reference(
                authors="B. Chen, W. Carvalho, N. Baracaldo, H. Ludwig, B. Edwards, T. Lee, I. Molloy, B. Srivastava",
                title="Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering",
                venue="SafeAI workshop",
                year=2019,
                arxiv="1811.03728",
            ),
        ),
        summary="To the network, a cat and a dog with a sticker are both cats, but for different reasons. So cut the "
        "features of each class into two heaps. If they lie apart and one is small, the small one came with a trigger.",
        threat_model="Defender holds the model and the training set, which may be poisoned; no clean images.",
        deviations=(
            "A class is flagged if both of the paper's measures agree, silhouette and relative size, with the limits "
            "of the Adversarial Robustness Toolbox; the paper's third test trains anew for every class.",
            "What is flagged is dropped and the victim trained anew, as in BackdoorBench; the paper gives these images "
            "their source label and trains on.",
            "An image's score is its silhouette, with a minus in the larger cluster: the paper scores clusters only.",
            "Where more than half of a class is poisoned, the smaller cluster is the clean one.",
            "The preset quick takes the stricter end, 0.15, of the silhouettes that the paper finds appropriate.",
        ),
    )

    def detect(self, model: Classifier, clean: ImageSet, suspects: ImageSet, ctx: Context) -> Detection:
        cfg = self.config
        features = extract(model, suspects.x)
        draws = ctx.generator("activation_clustering")
        seed = int(torch.randint(2**31 - 1, (1,), generator=draws, device=ctx.device))
        scores = torch.full((len(suspects),), -1.0, device=features.device)  # least suspicious: not judged
        flagged = torch.zeros_like(suspects.y, dtype=torch.bool)
        fits = torch.zeros(len(suspects.classes), device=features.device)
        for label, rows in judged_classes(suspects, ctx):
            split = split_in_two(reduced(features[rows], cfg, seed), seed)
            if split is None:
                ctx.log(
                    f"all images of {suspects.classes[label]} have the same features: nothing is said",
                    "warning",
                )
                continue
            scores[rows] = split.toward_minority.to(scores)
            share = split.minority.double().mean().item()
            fit = split.silhouettes.mean().item()
            if share <= cfg.largest:  # two heaps of about the same size are no sign of poison
                fits[label] = fit
            if share <= cfg.largest and fit > cfg.silhouette:
                flagged[rows[split.minority.to(rows.device)]] = True
                ctx.log(
                    f"{suspects.classes[label]}: {share:.0%} of the images lie apart, silhouette {fit:.2f}"
                )
        return sample_verdict("silhouette of a small cluster", fits, cfg.silhouette, scores, flagged, ctx)

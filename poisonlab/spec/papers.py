"""Papers that the cards of several methods cite, each once; a paper that one method cites stands on its card."""

from poisonlab.spec.citation import Reference

ADVERSARIAL_UNLEARNING = Reference(
    authors="Y. Zeng, S. Chen, W. Park, Z. M. Mao, M. Jin, R. Jia",
    title="Adversarial Unlearning of Backdoors via Implicit Hypergradient",
    venue="ICLR",
    year=2022,
    arxiv="2110.03735",
)
CIFAR = Reference(
    authors="A. Krizhevsky", title="Learning Multiple Layers of Features from Tiny Images", year=2009
)
METAPOISON = Reference(
    authors="W. R. Huang et al.",
    title="MetaPoison: Practical General-purpose Clean-label Data Poisoning",
    venue="NeurIPS",
    year=2020,
    arxiv="2004.00225",
)
POISON_FROGS = Reference(
    authors="A. Shafahi et al.",
    title="Poison Frogs! Targeted Clean-Label Poisoning Attacks on Neural Networks",
    venue="NeurIPS",
    year=2018,
    arxiv="1804.00792",
)
PUREGEN = Reference(
    authors="S. Bhat, J. Jiang, O. Pooladzandi, A. Branch, G. Pottie",
    title="PureGen: Universal Data Purification for Train-Time Poison Defense via Generative Model Dynamics",
    venue="NeurIPS",
    year=2024,
    arxiv="2405.18627",
)
RESNET = Reference(
    authors="K. He et al.",
    title="Deep Residual Learning for Image Recognition",
    year=2016,
    arxiv="1512.03385",
)
REPAIR = Reference(
    authors="R. Tanno, M. F. Pradier, A. Nori, Y. Li",
    title="Repairing Neural Networks by Leaving the Right Past Behind",
    venue="NeurIPS",
    year=2022,
    arxiv="2207.04806",
)
TROJANING = Reference(
    authors="Y. Liu et al.", title="Trojaning Attack on Neural Networks", venue="NDSS", year=2018
)

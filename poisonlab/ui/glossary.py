"""What every number on the pages means: one place, shown wherever the number is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """``label`` for columns and axes, ``text`` for the hover, ``rate`` if it is a share shown in percent."""

    label: str
    text: str
    rate: bool = True


_DEFINED = {
    "clean_accuracy": Definition(
        "Clean accuracy", "ACC: share of untouched test images given their true class. Higher is better."
    ),
    "asr": Definition(
        "ASR",
        "Attack success rate: share of triggered test images (those of the target class left out) that are "
        "given the attacker's class. Lower is better under a defense.",
    ),
    "robust_accuracy": Definition(
        "Robust accuracy",
        "RA: share of triggered test images still given their true class. A low ASR with a low RA means "
        "that the model is broken, not repaired. Higher is better.",
    ),
    "poison_success": Definition(
        "Poison success",
        "Targeted poisons: share of the chosen target images that are given the class the attacker wished "
        "for. Lower is better under a defense.",
    ),
    "success": Definition(
        "Attack success",
        "ASR for backdoors, poison success for targeted poisons, lost accuracy for wrong labels and spoilt images. "
        "Lower is better under a defense.",
    ),
    "accuracy_loss": Definition(
        "Lost accuracy",
        "Wrong labels and spoilt images: clean accuracy of a model trained on the same images before they were "
        "corrupted, minus that of this model. Below 0 the model is better than that control. Lower is better.",
    ),
    "clean_accuracy_retrained": Definition(
        "Accuracy retrained",
        "Clean accuracy of a model trained from scratch on the images that are not corrupted and on the defender's "
        "trusted ones. Only the experimenter knows which these are: what perfect flagging would allow.",
    ),
    "corrupted": Definition("Corrupted", "Share of the training images whose label or pixels are wrong."),
    "flagged": Definition("Flagged", "Share of the training images that the repair suspects."),
    "flag_auroc": Definition(
        "Flag AUROC",
        "Probability that a corrupted or poisoned training image has a higher score than a clean one. 0.5 is chance, 1 "
        "is best.",
        rate=False,
    ),
    "flag_precision": Definition(
        "Flag precision",
        "Share of the flagged images that are corrupted or poisoned; the others are there by mistake.",
    ),
    "flag_recall": Definition("Flag recall", "Share of the corrupted or poisoned images that are flagged."),
    "returned_clean": Definition(
        "Rightly returned", "Share of the images taken back that are clean. Higher is better."
    ),
    "relabelled_right": Definition(
        "Rightly relabeled", "Share of the relabeled images whose most likely new label is the true one."
    ),
    "fate": Definition(
        "Fate",
        "What a repair does with a flagged image: kept out of the training, returned with its label because a model "
        "trained without the suspects agrees with it, or relabeled by that model.",
        rate=False,
    ),
    "confusion": Definition(
        "Confusion matrix",
        "Share of the test images of each true class (row) that are given each class (column). A perfect model has the "
        "diagonal alone.",
    ),
    "control": Definition(
        "Control",
        "The same measure of success on a model trained without any poison: what chance alone gives. A "
        "defense cannot be expected to go below it.",
    ),
    "undefended": Definition(
        "Undefended",
        "The same measure on the model trained on the poison with no defense: what the attack can do.",
    ),
    "success_undefended": Definition(
        "Success undefended", "Attack success on the model trained on the poison with no defense."
    ),
    "clean_accuracy_undefended": Definition(
        "Accuracy undefended",
        "Clean accuracy of the poisoned model before any defense: what the defense may lose.",
    ),
    "der": Definition(
        "DER",
        "Defense effectiveness rating: (drop in success - drop in accuracy + 1) / 2, drops counted from 0. "
        "50 % means no effect, 100 % is best.",
    ),
    "psnr": Definition(
        "PSNR",
        "Peak signal-to-noise ratio in decibels: how alike two images are. 40 dB is invisible, 20 dB is "
        "plainly visible. Identical images have no finite value.",
        rate=False,
    ),
    "psnr_untouched_purified": Definition(
        "PSNR of purified clean images",
        "Of training images that nobody poisoned, after purification against before: what it costs.",
        rate=False,
    ),
    "psnr_poisoned_given": Definition(
        "PSNR of poisoned images", "Against what they were before the attacker came.", rate=False
    ),
    "psnr_poisoned_purified": Definition(
        "PSNR of purified poisoned images",
        "Against what they were before the attacker came. It may be lower than before purification, which adds changes "
        "of its own: what counts is whether the perturbation is gone.",
        rate=False,
    ),
    "energy": Definition(
        "Energy",
        "What the energy model says of an image: low means that it looks like the clean images the model "
        "learned from. Only differences mean anything; the zero is arbitrary.",
        rate=False,
    ),
    "auroc": Definition(
        "AUROC",
        "Probability that a poisoned image, or a purified one, has a higher energy than a clean one. 0.5 means the "
        "energy cannot tell them apart, 1 means it always can.",
        rate=False,
    ),
    "way_back": Definition(
        "Way back",
        "Median energy of poisoned images minus that of purified ones, as a share of poisoned minus clean: 100 % means "
        "that purification took back all that the poison had raised, more that it went below the clean images.",
    ),
    "surviving_share": Definition(
        "Surviving share",
        "How much of the perturbation d is left after purification Psi: ||Psi(x+d) - Psi(x)|| / ||d||, both purified "
        "with the same noise, averaged over the poisons shown. 100 % means that purification did nothing to it, above "
        "100 % that it made the two images more different. Lower is better.",
    ),
    "distance": Definition(
        "Distance",
        "L2 norm of the difference of two images with pixels in [0, 1], averaged over images.",
        rate=False,
    ),
    "spectrum": Definition(
        "Spectrum",
        "Size of each spatial frequency in the perturbation. The middle is an overall shift in brightness, "
        "the rim is pixel-to-pixel change.",
        rate=False,
    ),
    "l1_norm": Definition(
        "L1 norm", "Sum of the absolute values of the recovered pattern: how much of it there is.", rate=False
    ),
    "mask": Definition(
        "Mask", "Factor in [0, 1] on a weight of the model: 1 keeps it, 0 removes it.", rate=False
    ),
    "detected": Definition(
        "Detected",
        "Whether the defense says that the victim holds a backdoor: 1 or 0, a rate over seeds. Worth nothing without "
        "the same for the control, which holds none. Higher is better.",
    ),
    "detected_control": Definition(
        "False alarm",
        "Whether the defense says that a model trained without any poison holds a backdoor: 1 or 0, a rate over seeds. "
        "Lower is better.",
    ),
    "target_found": Definition(
        "Target found",
        "Whether the class that the defense names is the attacker's: 1 or 0. Higher is better.",
    ),
    "sample_auroc": Definition(
        "Sample AUROC",
        "Probability that a poisoned training image has a higher score of suspicion than a clean one. 0.5 is chance, 1 "
        "is best.",
        rate=False,
    ),
    "samples_caught": Definition(
        "Poisons caught", "Share of the poisoned training images that the defense flags. Higher is better."
    ),
    "samples_accused": Definition(
        "Clean images flagged",
        "Share of the clean training images that the defense flags. Lower is better.",
    ),
    "isolation_precision": Definition(
        "Isolation precision",
        "Share of the images set aside in training that are poisoned. Compare with the share of poison in the whole "
        "set. Higher is better.",
    ),
    "isolation_recall": Definition(
        "Isolation recall",
        "Share of the poisoned images that are set aside in training: few suffice to unlearn.",
    ),
    "recovered_asr": Definition(
        "ASR of the recovered trigger",
        "Share of test images of other classes that the trigger recovered by the defense sends to the attacker's "
        "class, on the undefended model. Higher means that the defender holds a working key.",
    ),
    "recovered_iou": Definition(
        "Overlap with the true trigger",
        "Intersection over union of the pixels that the recovered trigger changes at least half as much as its "
        "strongest, and those that the true one changes. 1 is best; a trigger that covers the whole image overlaps "
        "with anything large.",
        rate=False,
    ),
    "trigger_norm": Definition(
        "Norm of the masks", "Median L1 norm of the masks in the trigger search, over classes.", rate=False
    ),
    "largest_share": Definition(
        "Largest share after unlearning",
        "Share of the clean images that one unlearned copy gives to its most frequent class.",
    ),
    "setting": Definition(
        "Setting",
        "Where the defense's one knob stood, such as the number of channels pruned. It is chosen from the defender's "
        "clean images alone.",
        rate=False,
    ),
    "oracle": Definition(
        "Oracle",
        "With the setting that the test set itself would choose: the lowest ASR that keeps nine tenths of the clean "
        "accuracy. No defender can know it; some published tables report it.",
    ),
    "repair_trace": Definition(
        "Accuracy and ASR on the way",
        "Clean accuracy: share of untouched test images given their true class. ASR: share of triggered test images "
        "given the attacker's class. Both of the model as it is after each epoch, measured by the experimenter.",
    ),
    "predictions": Definition(
        "Predictions",
        "Share of the defender's own clean images that the model gives each class. The images are balanced over the "
        "classes, so an even model has bars of equal height.",
    ),
    "drive": Definition(
        "Activation drive",
        "Mean activation of a channel on triggered test images minus that on the same images without the trigger. Far "
        "from 0: the channel reacts to the trigger.",
        rate=False,
    ),
    "weight_change": Definition(
        "Weight change",
        "Sum of the absolute changes of a neuron's weights while the model unlearns images, relative to the largest. "
        "The defender unlearns clean images; the experimenter, for comparison, as many triggered ones.",
        rate=False,
    ),
    "clean_images": Definition(
        "Clean images",
        "Trusted, labeled images that the defender holds, none of them in the training set.",
        rate=False,
    ),
    "unlearning_accuracy": Definition(
        "Accuracy while unlearning",
        "On the defender's images, after each pass of gradient ascent.",
        rate=False,
    ),
    "recovering_loss": Definition(
        "Loss while recovering",
        "On clean images, of the unlearned network with its channels masked.",
        rate=False,
    ),
    "perturbed_loss": Definition(
        "Loss of the shaken network",
        "On clean images, with each channel moved the way that hurts most.",
        rate=False,
    ),
    "health_psnr": Definition(
        "PSNR",
        "Of held-out clean images after 50 steps of the model: too low means that the walk destroys pictures.",
        rate=False,
    ),
    "health_energy_gap": Definition(
        "Energy gap",
        "Mean energy of held-out images minus that of the model's own samples: near zero when training is balanced.",
        rate=False,
    ),
    "health_bank_energy_spread": Definition(
        "Energy spread", "Standard deviation of the energies of the model's own samples.", rate=False
    ),
    "health_psnr_noised": Definition(
        "PSNR when noised", "Of the same images before the diffusion model took the noise away.", rate=False
    ),
    "health_validation_loss": Definition(
        "Validation loss",
        "Mean squared error of the noise that the diffusion model sees in held-out images: 1 would be none of it.",
        rate=False,
    ),
    "health_noise_auroc": Definition(
        "Noise AUROC",
        "Probability that a noisy image has a higher energy than a clean one. Near 0.5 the model sees no "
        "difference, and purification is weak.",
        rate=False,
    ),
    "loss": Definition("Training loss", "What the network minimises; one line a training.", rate=False),
    "clean_loss": Definition(
        "Loss on clean images", "Of the masked model on the defender's images after each round.", rate=False
    ),
    "triggered_loss": Definition(
        "Loss under the pattern", "The same images with the recovered pattern added, true labels.", rate=False
    ),
    "relative_feature_distance": Definition(
        "Distance to the target",
        "How far the poisons' mean feature is from the target's, relative to its norm: 0 is a bull's eye.",
        rate=False,
    ),
    "adversarial_loss": Definition(
        "Adversarial loss",
        "Largest logit of any other class minus that of the class the attacker wishes for, on the target image "
        "(Carlini and Wagner). Negative: the target is misread as wished.",
        rate=False,
    ),
    "adversarial_loss_unrolled": Definition(
        "Adversarial loss, unrolled",
        "The same after the K training steps that crafting differentiates through, averaged over surrogates of all "
        "ages. It hardly moves while victims already fall: no sign of whether crafting has converged.",
        rate=False,
    ),
    "adversarial_probability": Definition(
        "Probability of the wished class",
        "What a network gives the attacker's class on the target image: its softmax.",
    ),
    "weight_path": Definition(
        "Path of the weights",
        "All weights of a network after each epoch, projected on the two directions in which the checkpoints of both "
        "trainings vary most. Both start from the same random weights and see the same order of images.",
        rate=False,
    ),
    "perturbation_size": Definition(
        "Size of the change",
        "Of every pixel and channel of every poison, as a share of the bound. A peak at 1: the bound is what holds the "
        "attack back.",
        rate=False,
    ),
    "color_shift": Definition(
        "Shift of colors",
        "Every color of an image moves by what a smooth grid over brightness and two chroma axes says: equal colors "
        "move alike, so that the eye takes it for other light.",
        rate=False,
    ),
    "psnr_purified": Definition(
        "PSNR of purified images",
        "Against what the defense was given, averaged over the first images.",
        rate=False,
    ),
    "settings": Definition(
        "Changed",
        "The values that differ from those of the preset, as the command line takes them after --set; empty where the "
        "preset decided everything.",
        rate=False,
    ),
    "n": Definition("n", "Number of seeds: independent repeats of the same experiment.", rate=False),
    "interval": Definition(
        "95 % interval",
        "Where the true mean lies with 95 % confidence: Student's interval over the seeds, which needs two; "
        "for targeted poisons Wilson's interval over all targets.",
        rate=False,
    ),
    "diverged": Definition("Diverged", "Runs in which some number was not finite.", rate=False),
    "targets_hit": Definition(
        "Targets hit so far",
        "Targets given the attacker's class, over the trials whose victim is finished. Reported while a run goes on; "
        "stages from the cache report nothing.",
        rate=False,
    ),
    "targets": Definition(
        "Targets", "Number of target images, each an independent trial with its own poisons.", rate=False
    ),
    "trials": Definition(
        "Trials",
        "Independent repeats of an attack: each target of a targeted poison with poisons of its own, or each target "
        "class of a backdoor, over its seeds.",
        rate=False,
    ),
    "wilson": Definition(
        "95 % interval",
        "Wilson's interval of a share of targets: the true rates that would not be surprised by this count. It counts "
        "targets as independent.",
        rate=False,
    ),
    "bootstrap": Definition(
        "95 % interval",
        "Of the mean over classes, by drawing as many classes with replacement 10,000 times; needs three classes. It "
        "says what another choice of classes might have given, not other seeds.",
        rate=False,
    ),
    "class_spread": Definition(
        "Deviation",
        "Standard deviation of the success over classes: large where some classes are easier than others.",
    ),
    "worst_class": Definition(
        "Maximum",
        "Success against the class that it is highest for: a defense is as good as its worst class.",
    ),
    "seconds": Definition(
        "Seconds",
        "Time of the stages that were computed, averaged over seeds; cached stages count as 0.",
        rate=False,
    ),
    "source": Definition(
        "Source",
        "local: measured on this machine. imported: measured by this program elsewhere and brought here. "
        "reference: measured by this program and shipped with it.",
        rate=False,
    ),
}

_SUFFIXES = {"_undefended": "undefended", "_control": "control", "_oracle": "oracle"}


def define(name: str) -> Definition:
    """The definition of a metric; ``asr_control`` and the like are put together from their parts."""
    if name in _DEFINED:
        return _DEFINED[name]
    if name.startswith("ebm_") and (inner := _DEFINED.get(f"health_{name.removeprefix('ebm_')}")):
        return Definition(f"Energy model: {inner.label}", inner.text, inner.rate)
    if name.startswith("ddpm_") and (inner := _DEFINED.get(f"health_{name.removeprefix('ddpm_')}")):
        return Definition(f"Diffusion model: {inner.label}", inner.text, inner.rate)
    for suffix, part in _SUFFIXES.items():
        base = name.removesuffix(suffix)
        if base != name and base in _DEFINED:
            whole = _DEFINED[base]
            return Definition(
                f"{whole.label}, {part}", f"{whole.text} Here: {_DEFINED[part].text}", whole.rate
            )
    return Definition(name.replace("_", " "), "Reported by the method; see its file.", rate=False)


def label(name: str) -> str:
    return define(name).label


def help_for(name: str) -> str:
    return define(name).text

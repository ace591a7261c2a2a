"""The words of pages that are no metrics of a run: curves, figures, columns.

The metrics of runs are in :mod:`poisonlab.measure.catalogue`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Term:
    """``label`` for headings and axes, ``text`` for the hover, ``rate`` of a share shown in percent."""

    label: str
    text: str
    rate: bool = False


# Reported step by step while a run goes on.
CURVES = {
    "trigger_norm": Term(
        "Norm of the masks",
        "Median L1 norm of the masks in the trigger search, over classes.",
    ),
    "largest_share": Term(
        "Largest share after unlearning",
        "Share of the clean images that one unlearned copy gives to its most frequent class.",
        rate=True,
    ),
    "unlearning_accuracy": Term(
        "Accuracy while unlearning",
        "On the defender's images, after each pass of gradient ascent.",
    ),
    "recovering_loss": Term(
        "Loss while recovering",
        "On clean images, of the unlearned network with its channels masked.",
    ),
    "perturbed_loss": Term(
        "Loss of the perturbed network",
        "On clean images, with each channel changed in the way that raises the loss most.",
    ),
    "loss": Term(
        "Training loss",
        "What the network minimizes; one line for each training.",
    ),
    "clean_loss": Term(
        "Loss on clean images",
        "Of the masked model on the defender's images after each round.",
    ),
    "triggered_loss": Term(
        "Loss under the pattern",
        "The same images with the recovered pattern added, true labels.",
    ),
    "relative_feature_distance": Term(
        "Distance to the target",
        "How far the poisons' mean feature is from the target's, relative to its norm: 0 means that they agree.",
    ),
    "adversarial_loss": Term(
        "Adversarial loss",
        "Largest logit of any other class minus that of the attacker's class, on the target image (Carlini and "
        "Wagner). Negative: the target is given the attacker's class.",
    ),
    "adversarial_loss_unrolled": Term(
        "Adversarial loss, unrolled",
        "The same after the K training steps that crafting differentiates through, averaged over surrogates of all "
        "ages. It hardly moves while victims are already fooled: it does not tell whether crafting has converged.",
    ),
    "psnr_purified": Term(
        "PSNR of purified images",
        "Against what the defense was given, averaged over the first images.",
    ),
    "targets_hit": Term(
        "Targets hit so far",
        "Targets given the attacker's class, over the trials whose victim is finished. Reported while a run goes on; "
        "stages from the cache report nothing.",
    ),
    "learned_asr": Term(
        "Attack success as it is learned",
        "Share of up to 500 triggered test images that the victim gives the attacker's class after so many epochs. "
        "Reported while it is trained; victims from the cache report nothing.",
    ),
    "learned_accuracy": Term(
        "Accuracy as it is learned",
        "Share of 500 clean test images that the victim reads rightly after so many epochs.",
    ),
    "alignment_loss": Term(
        "Alignment loss",
        "1 minus the cosine between the gradient of the poisons and that of the target with the attacker's class: 0 "
        "means that training on the poisons moves the weights towards the adversarial label.",
    ),
    "bit_accuracy": Term(
        "Bit accuracy",
        "Share of the hidden bits that the decoder reads rightly from encoded images.",
        rate=True,
    ),
    "collision_objective": Term(
        "Collision objective",
        "Squared distance of a poison to the target in feature space plus the weighted squared distance to its base "
        "image, averaged over poisons.",
    ),
    "cross_accuracy": Term(
        "Accuracy with a false trigger",
        "Share of training images with another image's trigger that are given their true class: the trigger works on "
        "its own image alone.",
        rate=True,
    ),
    "fooling_rate": Term(
        "Fooling rate",
        "Share of images that the perturbation moves to another class.",
        rate=True,
    ),
    "mean_activation": Term(
        "Mean activation",
        "Of the chosen neurons on the trigger that is being optimized.",
    ),
    "polytope_loss": Term(
        "Polytope loss",
        "Relative squared distance of the target's feature to the convex hull of the poisons' features, averaged over "
        "networks.",
    ),
    "trigger_loss": Term(
        "Loss of the trigger",
        "Of the surrogate on images with the trigger and the attacker's class, while the trigger is optimized.",
    ),
    "triggered_accuracy": Term(
        "Accuracy with the trigger",
        "Share of triggered training images that are given the attacker's class.",
        rate=True,
    ),
}

TERMS = {
    "fate": Term(
        "Fate",
        "What a repair does with a flagged image: kept out of the training, returned with its label because a model "
        "trained without the suspects agrees with it, or relabeled by that model.",
    ),
    "confusion": Term(
        "Confusion matrix",
        "Share of the test images of each true class (row) that are given each class (column). A perfect model has "
        "values on the diagonal alone.",
        rate=True,
    ),
    "psnr": Term(
        "PSNR",
        "Peak signal-to-noise ratio in decibels: how alike two images are. 40 dB is invisible, 20 dB is plainly "
        "visible. Identical images have no finite value.",
    ),
    "psnr_untouched_purified": Term(
        "PSNR of purified clean images",
        "Of training images that are not poisoned, after purification against before: what it costs.",
    ),
    "psnr_poisoned_given": Term(
        "PSNR of poisoned images",
        "Against the images before they were poisoned.",
    ),
    "psnr_poisoned_purified": Term(
        "PSNR of purified poisoned images",
        "Against the images before they were poisoned. It may be lower than before purification, which adds changes "
        "of its own: what counts is whether the perturbation is gone.",
    ),
    "energy": Term(
        "Energy",
        "The output of the energy model for an image: low means that it looks like the clean images the model learned "
        "from. Only differences mean anything; the zero is arbitrary.",
    ),
    "auroc": Term(
        "AUROC",
        "Probability that a poisoned image, or a purified one, has a higher energy than a clean one. 0.5 means the "
        "energy cannot tell them apart, 1 means it always can.",
    ),
    "way_back": Term(
        "Way back",
        "Median energy of poisoned images minus that of purified ones, as a share of poisoned minus clean: 100 % "
        "means that purification took back all that the poison had raised, more that it went below the clean images.",
        rate=True,
    ),
    "distance": Term(
        "Distance",
        "L2 norm of the difference of two images with pixels in [0, 1], averaged over images.",
    ),
    "spectrum": Term(
        "Spectrum",
        "Size of each spatial frequency in the perturbation. The middle is an overall shift in brightness, the rim is "
        "pixel-to-pixel change.",
    ),
    "l1_norm": Term(
        "L1 norm",
        "Sum of the absolute values of the recovered pattern: how much of it there is.",
    ),
    "mask": Term(
        "Mask",
        "Factor in [0, 1] on a weight of the model: 1 keeps it, 0 removes it.",
    ),
    "repair_trace": Term(
        "Accuracy and ASR on the way",
        "Clean accuracy: share of untouched test images given their true class. ASR: share of triggered test images "
        "given the attacker's class. Both of the model as it is after each epoch, measured by the experimenter.",
        rate=True,
    ),
    "predictions": Term(
        "Predictions",
        "Share of the defender's own clean images that the model gives each class. The images are balanced over the "
        "classes, so an even model has bars of equal height.",
        rate=True,
    ),
    "drive": Term(
        "Activation drive",
        "Mean activation of a channel on triggered test images minus that on the same images without the trigger. Far "
        "from 0: the channel reacts to the trigger.",
    ),
    "weight_change": Term(
        "Weight change",
        "Sum of the absolute changes of a neuron's weights while the model unlearns images, relative to the largest. "
        "The defender unlearns clean images; the experimenter, for comparison, as many triggered ones.",
    ),
    "clean_images": Term(
        "Clean images",
        "Trusted, labeled images that the defender holds, none of them in the training set.",
    ),
    "health_psnr": Term(
        "PSNR",
        "Of held-out clean images after 50 steps of the model: too low means that the chain destroys images.",
    ),
    "health_energy_gap": Term(
        "Energy gap",
        "Mean energy of held-out images minus that of the model's own samples: near zero when training is balanced.",
    ),
    "health_bank_energy_spread": Term(
        "Energy spread",
        "Standard deviation of the energies of the model's own samples.",
    ),
    "health_psnr_noised": Term(
        "PSNR when noised",
        "Of the same images before the diffusion model took the noise away.",
    ),
    "health_validation_loss": Term(
        "Validation loss",
        "Mean squared error of the noise that the diffusion model predicts in held-out images: 1 means that it "
        "predicts none of it.",
    ),
    "health_noise_auroc": Term(
        "Noise AUROC",
        "Probability that a noisy image has a higher energy than a clean one. Near 0.5 the model sees no difference, "
        "and purification is weak.",
    ),
    "weight_path": Term(
        "Path of the weights",
        "All weights of a network after each epoch, projected on the two directions in which the checkpoints of both "
        "trainings vary most. Both start from the same random weights and see the same order of images.",
    ),
    "perturbation_size": Term(
        "Size of the change",
        "Of every pixel and channel of every poison, as a share of the bound. A peak at 1: the bound is what limits "
        "the attack.",
    ),
    "color_shift": Term(
        "Shift of colors",
        "Every color of an image moves by what a smooth grid over brightness and two chroma axes says: equal colors "
        "move alike, so that the change looks like another light.",
    ),
    "settings": Term(
        "Changed",
        "The values that differ from those of the preset, as the command line takes them after --set; empty where the "
        "preset decided everything.",
    ),
    "n": Term(
        "n",
        "Number of seeds: independent repeats of the same experiment.",
    ),
    "ranked_block": Term(
        "Compared under",
        "One dataset, one kind of threat, one preset: numbers of different ones cannot be ranked against each other. "
        "Screens and detectors that leave the network as it is are compared on their own pages.",
    ),
    "may_cost": Term(
        "Accuracy a repair may cost",
        "Where a defense costs more clean accuracy than this against an attack, that attack counts as not repaired.",
    ),
    "rank": Term(
        "Rank",
        "One more than the number of methods whose interval of the mean rank lies wholly before this one's.",
    ),
    "mean_rank": Term(
        "Mean rank",
        "The place among all methods, averaged over attacks (or defenses). Its interval holds 95 % of 5,000 resamples, "
        "in each of which attacks and their seeds are drawn anew, the same for all methods.",
    ),
    "tuned_on": Term(
        "Tuned on",
        "Runs of seeds 10 to 12, on which the values of the presets were chosen (with the usual target class). They "
        "flatter a method; all other seeds are held out.",
    ),
    "worst": Term(
        "Worst", "The largest attack success over all attacks (or defenses), and where it is reached."
    ),
    "loss": Term(
        "Accuracy lost",
        "Clean accuracy of the undefended model minus that of the defended one, the mean over attacks.",
    ),
    "spearman": Term(
        "Rank correlation",
        "Spearman's, between the orders in which two settings put the defenses that both measured, by mean success "
        "over the attacks that both measured: 1 is the same order, 0 none in common, -1 the reverse.",
    ),
    "p": Term(
        "p", "How often a correlation as strong would come up if the two orders had nothing in common."
    ),
    "too_dear": Term(
        "Too dear",
        "On how many of the attacks (or defenses) a repair cost more accuracy than is allowed, so that they count as "
        "not repaired.",
    ),
    "covered": Term(
        "Measured on",
        "How many of the compared attacks (or defenses); those count that were measured against half of the others.",
    ),
    "interval": Term(
        "95 % interval",
        "Where the true mean lies with 95 % confidence: Student's interval over the seeds, which needs two; for "
        "targeted poisons Wilson's interval over all targets.",
    ),
    "collapsed": Term(
        "Collapsed",
        "Runs in which control, undefended or defended model gives nearly the same answer to every test image. Such a "
        "model makes any attack look perfect or any defense complete; these runs do not count in the means.",
    ),
    "verified": Term(
        "Verified",
        "Runs whose submitted networks were measured again on this machine (`poisonlab verify`): accuracies and attack "
        "success are as claimed. How the networks were trained, and what detectors found, weights do not tell.",
    ),
    "diverged": Term(
        "Diverged",
        "Runs in which some number was not finite.",
    ),
    "trials": Term(
        "Trials",
        "Independent repeats of an attack: each target of a targeted poison with poisons of its own, or each target "
        "class of a backdoor, over its seeds.",
    ),
    "wilson": Term(
        "95 % interval",
        "Wilson's interval of a share of targets: the true rates under which this count is not unlikely. It takes the "
        "targets to be independent.",
    ),
    "bootstrap": Term(
        "95 % interval",
        "Of the mean over classes, by drawing as many classes with replacement 10,000 times; needs three classes. It "
        "says what another choice of classes might have given, not other seeds.",
    ),
    "class_spread": Term(
        "Deviation",
        "Standard deviation of the success over classes: large where some classes are easier than others.",
        rate=True,
    ),
    "worst_class": Term(
        "Maximum",
        "Success against the class that it is highest for: a defense is as good as its worst class.",
        rate=True,
    ),
    "seconds": Term(
        "Seconds",
        "Time of the stages that were computed, averaged over seeds; cached stages count as 0.",
    ),
    "source": Term(
        "Source",
        "local: measured on this machine. imported: measured by this program elsewhere and brought here. reference: "
        "measured by this program and shipped with it.",
    ),
}

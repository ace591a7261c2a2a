"""Which pages show something of a run, and what it must have recorded for that; the longer words of a page."""

# What a run must have recorded for a page to show something of it, the typical kind first.
SHOWS = {
    "poisons": ("PoisonGallery", "TargetGallery"),
    "crafting": ("Crafting",),
    "triggers": ("TriggerTruth", "TriggerReconstruction", "ClassAnomaly", "NeuronScores"),
    "neurons": ("SettingsCurve", "NeuronScores", "ActivationDrive", "Curve"),
    "unlearning": ("RepairTrace", "PredictionHistogram"),
    "screening": ("ScreeningReview",),
    "repair": ("FlagReview", "ConfusionChange", "SampleSuspicion"),
    "purification": ("PurificationTrace",),
    "langevin": ("LangevinTrace",),
    "energy": ("EnergyHistogram", "ModelHealth"),
}

# The same of Home, whose pictures are of one run.
HOME = {"home": ("TriggerTruth",)}

# A page that looks into the networks of a run, which any run that was measured here may have left in the cache.
LENS = "lens"

# What a check of a data set can miss, and what its alarms are worth.
CHECK_LIMITS = """
- **An attacker who knows the detectors** can make poisons that none of them sees. A set that does not stand out is not
  thereby clean.
- **Clean-label poisons** keep the right label, so nothing is wrong with the labels; targeted ones are a handful of
  images, far fewer than the share that any detector looks at.
- **Transfer attacks** are made for another network than the one that is trained here, and may show in none of its
  features.
- **Wrong labels and odd pictures** stand out as well: most sets have some, and no attacker put them there.
- **The top tenth of each detector is always a tenth.** Only the comparison with clean sets says whether a set is
  unusual. With 19 of them, one clean set in 20 is accused; clean sets of another origin than the suspected one, say of
  another camera, make that number wrong.
"""

# The same of a check of a network.
CHECK_MODEL_LIMITS = """
- **Whoever knows the detectors** can hide a backdoor from them. A network that does not stand out is not thereby clean.
- **Triggers that touch the whole image**, backdoors of a single image, and triggers that differ from image to image
  leave no small common trigger to be found.
- **The clean networks were trained here**, on the images given and by the recipe of the preset. A network that was
  trained on other images, for longer, or with other augmentation can differ from them without any backdoor.
- **1 in 20 clean networks is accused** by a comparison with nineteen. Look at the recovered trigger and at its class.
- **Measured** on networks that know digits, each attack six times: all with BadNets, Blend and the Trojan square stand
  out, three with WaNet, none with SIG; and 1 of 40 clean ones.
"""

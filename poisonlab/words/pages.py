"""Which pages show something of a run, and what it must have recorded for that."""

# What a run must have recorded for a page to show something of it, the typical kind first.
SHOWS = {
    "poisons": ("PoisonGallery", "TargetGallery"),
    "crafting": ("Crafting",),
    "triggers": ("TriggerTruth", "TriggerReconstruction", "ClassAnomaly", "NeuronScores"),
    "neurons": ("SettingsCurve", "NeuronScores", "ActivationDrive", "Curve"),
    "unlearning": ("RepairTrace", "PredictionHistogram"),
    "repair": ("FlagReview", "ConfusionChange", "SampleSuspicion"),
    "purification": ("PurificationTrace",),
    "langevin": ("LangevinTrace",),
    "energy": ("EnergyHistogram", "ModelHealth"),
}

# The same of Home, whose pictures are of one run.
HOME = {"home": ("TriggerTruth",)}

# A page that looks into the networks of a run, which any run that was measured here may have left in the cache.
LENS = "lens"

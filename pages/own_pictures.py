"""Your pictures: bring a ZIP, look at what is in it, keep it as a dataset."""

from poisonlab.ui import own_pictures, page

page.header(
    "Your pictures",
    "Bring a ZIP of pictures sorted into a folder for each class, and attack, defend and measure on it as on any "
    "other dataset.",
    "The pictures stay on this machine; nothing is sent anywhere.",
)
own_pictures.bring()
own_pictures.kept()

"""Training chips cut from images: screened, paired, labelled, divided and written."""

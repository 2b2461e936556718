"""Photos as data sets: single images that show damage or do not, in folders of many layouts."""

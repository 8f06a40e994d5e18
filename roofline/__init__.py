"""Facts about devices and predictions of how fast a kernel can be. Every figure is labelled."""

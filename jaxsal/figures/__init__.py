"""Pictures of saliency maps, drawn with Matplotlib."""

"""Pictures of saliency maps and the page that shows them."""

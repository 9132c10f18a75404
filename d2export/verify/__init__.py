"""Is a bundle right, and how fast is it?"""

"""A web page for one model: what it makes of a picture, and who in a gallery looks like it, by any of its tokens.

`viewer` computes (no server, no Gradio), `page` lays it out in Gradio, `guard` decides what the server answers to whom.
"""

"""``worldswitch report``: from bench results (JSON) to one page with the paper's figures beside ours, and its plots.

``results`` reads, the modules named after experiments turn results into ``blocks`` (tables, prose, charts),
``plots`` draws charts, ``page`` makes HTML of it all.
"""

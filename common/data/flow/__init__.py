"""Sets of optical flow: a few frames of a video, and the true motion of their pixels."""

"""The forms of IPFS's blocks and of what is made of them. Pure: bytes in, values out."""

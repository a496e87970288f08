# A satellite scene from bands to polygons. From the repository's folder, in the project's environment with the extra geo:
#   sh examples/satellite/run.sh
set -e

# Sixteen labelled tiles and a scene, GeoTIFFs of four bands. With your own, leave this out, and change land.yaml.
python examples/satellite/make_scene.py data/land

# Is the data sound? The audit also prints mean and standard deviation of each band, for MODEL.PIXEL_MEAN and PIXEL_STD.
python -m lightning_seg.audit --config examples/satellite/land.yaml

# Trains for a minute on two CPU cores. version_0 is the audit's folder.
python train.py fit --config examples/satellite/land.yaml

# The whole scene, by windows: a Cloud-Optimised GeoTIFF of class ids, a GeoPackage of polygons, and a picture. The scene may
# be larger than memory.
python train.py predict --ckpt_path runs/land/version_1 --data.predict data/land/scene.tif \
    --save masks polygons overlays --output land

# Both files lie where the scene lies. QGIS opens them, and so does every program that uses GDAL.
python examples/satellite/look.py land/masks/scene.tif land/polygons/scene.gpkg data/land/scene_labels.tif

# A classified raster of any origin becomes polygons, too; here with outlines that may move by 1.5 pixels.
python -m lightning_seg.polygons land/masks/scene.tif land/simple.geojson --simplify 1.5
